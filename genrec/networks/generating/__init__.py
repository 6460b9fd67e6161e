"""The networks that propose candidates: TIGER, ETEGRec, two towers."""
