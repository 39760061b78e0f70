"""Training data: data sets, sources, splits, augmentation, tokenizer."""
