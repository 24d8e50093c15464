"""One use case each: `run(Request) -> Result`. Nothing here prints."""
