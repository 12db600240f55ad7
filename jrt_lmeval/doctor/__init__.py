"""Is everything installed, and is this model fit to be evaluated?"""
