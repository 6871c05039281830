"""Six hosts under load while any two of them fail, in each of six ways.

`world` is the cluster in network namespaces, `load` the clients and what they saw, `story` the
faults and the judgement. The short form is tests/e2e/test_host_faults.py; the long one:

    make host-faults                          every way, a pair each, and the figures
    make host-faults ARGS='--pairs 15'        all pairs
"""
