"""uex for Python programs and notebooks; `import uexcli` has these names, loaded when they are used."""
