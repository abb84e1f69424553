"""Import the providers of other programs: `file` reads their files, `programs` translates them."""
