"""Commands: each module here is one; `main` is the boundary where errors become exit codes."""
