"""An item becomes codes: the item embeddings, the tokenizer, the code table."""
