"""`python -m genrec.recommend --user KEY`: what a packaged model recommends, with titles and reasons."""

from genrec.recommend.command import main

if __name__ == "__main__":
    main()
