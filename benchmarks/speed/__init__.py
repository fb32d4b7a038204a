"""Speed and memory against TRL: ``make bench``, see docs/performance.md."""
