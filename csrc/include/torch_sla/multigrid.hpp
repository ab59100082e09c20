// Algebraic multigrid, in the order of its phases.
//
//   matrix       block CSR storage and compile-time dispatch on the block size
//   strength     which couplings of a matrix carry smooth error
//   aggregation  disjoint groups of strongly coupled rows
//   classical    or a subset of the points, and interpolation from it
//   transfer     tentative prolongation from the near-nullspace, and its smoothing
//   galerkin     the coarse matrix P^T A P
//   smoothers    what is applied between transfers
//   coarse       dense (pseudo-)inverse of the coarsest matrix
//   hierarchy    the set-up and the refresh of a list of levels
//   cycle        one application of the preconditioner
//   lattice...   the same on stencils, where the pattern is a lattice
//   lanes        several right-hand sides side by side as the elements of one vector
//   rows         the caller's matrix, as Krylov methods read it
//   cg, krylov   conjugate gradients, GMRES and BiCGStab around it, with few passes over memory
#pragma once

#include "multigrid/cg.hpp"
#include "multigrid/cg_lanes.hpp"
#include "multigrid/cycle.hpp"
#include "multigrid/hierarchy.hpp"
#include "multigrid/krylov.hpp"
#include "multigrid/krylov_lanes.hpp"
#include "multigrid/lattice_cycle.hpp"
