"""Adapters to the tools of others. Each needs a package that lstmlm does not, and names it if it is missing."""
