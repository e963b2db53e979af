"""Tasks: everything that differs by kind of model, behind one protocol and one registry."""
