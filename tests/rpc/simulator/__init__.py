"""Two ends of QUIC over a network that loses, repeats, reorders, damages and delays, in virtual
time. Everything that the network and the applications do follows from one seed."""
