"""Loss functions and the adaptation of the weights of their terms."""
