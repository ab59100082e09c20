"""Problems that several processes share, by physics, each with values for its parameters."""
