"""Our measures and our SASRec beside others' on the same lists and data; they have an environment of their own."""
