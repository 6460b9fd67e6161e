"""The page that `dvc plots show` fills, with its chart library inside: DVC's own loads that from the network.

`make install` writes it, and .dvc/config names it. It is not in git, since it is 900 kB of a package's scripts.
"""

import re
from pathlib import Path

from genrec.storage.files import written

TEMPLATE = Path(".genrec/plots.html")
GRAMMAR = "5.20"
"""The version of Vega-Lite whose charts DVC writes: its templates name version 5."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{refresh_tag}
<title>DVC plots</title>
<style>
body { font-family: system-ui, sans-serif; margin: 2rem; }
@media (prefers-color-scheme: dark) { body { background: #16181d; } }
.vega-embed { background: white; border-radius: 8px; padding: 1rem; margin-bottom: 1rem; }
table { border-spacing: 15px; }
</style>
<script>SCRIPTS</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def plots_page(scripts: str) -> str:
    """DVC's page with scripts inside, and without its tags that load them.

    Raises:
        ValueError: the scripts hold what would end their tag, or what DVC would fill.
    """
    if re.search(r"</script|\{(scripts|plot_divs|refresh_tag)\}", scripts, re.IGNORECASE):
        raise ValueError("the chart library's scripts must hold neither </script nor a place that DVC fills")
    return PAGE.replace("SCRIPTS", scripts)


def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which takes seconds to put together."""
    import vl_convert  # 90 MB

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=GRAMMAR)


def main() -> None:
    with written(TEMPLATE) as partial:
        partial.write_text(plots_page(chart_library()), encoding="utf-8")


if __name__ == "__main__":
    main()
