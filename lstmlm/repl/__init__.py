"""The interactive predictor: `conversation` is what happens, `terminal` and `lines` are two faces of it."""
