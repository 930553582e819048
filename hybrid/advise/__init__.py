"""`hybrid advise`: what kind of model a data set calls for, answered by measurement."""
