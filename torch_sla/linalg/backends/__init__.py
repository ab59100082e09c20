"""One file per solver library, all with the contract of `base`; `registry` knows them."""
