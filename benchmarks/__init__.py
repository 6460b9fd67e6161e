"""Speed against public implementations: `make bench` measures, interleaved, and writes benchmarks/results.md."""
