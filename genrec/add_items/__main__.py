"""`python -m genrec.add_items --items new.csv`: items that came after training, without training."""

from genrec.add_items.command import main

if __name__ == "__main__":
    main()
