"""The actions of the Query API, a file for each group of them."""
