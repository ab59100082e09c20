// How Python calls what the levels are made with, and how a solve ended.
#pragma once

#include <stdexcept>
#include <string>

#include "torch_sla/multigrid/hierarchy.hpp"
#include "torch_sla/multigrid/cg.hpp"

namespace torch_sla_bindings {

namespace mg = torch_sla::multigrid;

inline mg::Smoother smoother_of(const std::string& name) {
  if (name == "jacobi") return mg::Smoother::jacobi;
  if (name == "l1_jacobi") return mg::Smoother::l1_jacobi;
  if (name == "spai0") return mg::Smoother::spai0;
  if (name == "chebyshev") return mg::Smoother::chebyshev;
  if (name == "gauss_seidel") return mg::Smoother::gauss_seidel;
  throw std::invalid_argument("no smoother is called " + name);
}

inline mg::Cycle cycle_of(const std::string& name) {
  if (name == "V") return mg::Cycle::V;
  if (name == "W") return mg::Cycle::W;
  if (name == "K") return mg::Cycle::K;
  throw std::invalid_argument("no cycle is called " + name);
}

inline const char* name_of(mg::Status status) {
  switch (status) {
    case mg::Status::converged: return "CONVERGED";
    case mg::Status::maxiter: return "MAXITER";
    case mg::Status::stagnation: return "STAGNATION";
    case mg::Status::breakdown: return "BREAKDOWN";
    default: return "NONFINITE";
  }
}

}  // namespace torch_sla_bindings
