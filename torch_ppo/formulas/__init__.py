"""Pure functions and modules of torch alone: tensors and numbers in, tensors out."""
