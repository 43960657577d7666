"""The interactive predictor. Its parts, from the inside out; `editor` and `lines` are its two faces.

- `draft`: the text, its cursor, and steps to undo
- `suggestions`: what is offered at a place in a text
- `own_words`: words of the text itself among them
- `statistics`: keys saved, words accepted, milliseconds
- `conversation`: all of this with a model and settings
- `commands`: what begins with `/`
- `lines`: without a terminal, a line in and an answer out
- `editor`: in a terminal, with `keys`, `screen`, `document` and `drawing`
"""
