"""What a model is trained to minimise: forecast errors, solution errors and residuals, an inverse problem."""
