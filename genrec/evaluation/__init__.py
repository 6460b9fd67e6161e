"""A model and a split become ranked items, ranked items become metrics with intervals."""
