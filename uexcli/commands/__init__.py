"""The use cases: `run(Request) -> Result` each; a command of several files is a folder. Nothing here prints."""
