"""Steps of `diagnose`: what the library answers, and what the package makes of it."""
