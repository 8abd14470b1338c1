"""How fast Fairmark is beside what one would use instead: on this machine, in one run, with equal scores.

`python -m benchmarks.speed` (`make bench`, `make bench-quick`). Peers are programs in environments of their own; this
package starts them, checks their scores, loads them and meters them. The method stands in `report.METHOD`.
"""
