"""`python -m genrec.params NAME`: put a preset into params.yaml."""

from genrec.params.preset import main

if __name__ == "__main__":
    main()
