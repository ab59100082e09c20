// The numeric object: a factor with what belongs to it.
#pragma once

#include <memory>

#include "cholesky_front.hpp"
#include "cholesky_memory.hpp"
#include "cholesky_symbolic.hpp"

namespace torch_sla {

// Which factorisation: L L^H of a positive definite matrix, L D L^H of a Hermitian one, L D L^T of a
// symmetric one (for real types the last two are the same).
enum class Kind { cholesky, hermitian, symmetric };

// P (S A S) P^T = L D L^op. S = diag(scale) and D are there for the indefinite kinds only. Inside
// supernode s the columns were pivoted: its column j is the local column pivot[first[s] + j].
template <class T>
struct Factor {
  std::shared_ptr<const Symbolic> symbolic;
  Kind kind = Kind::cholesky;
  Buffer<T> panels;
  std::vector<std::int32_t> pivot;    // [n]
  std::vector<unsigned char> width;   // [n] 1: 1x1 pivot, 2: first of a 2x2 pivot, 0: its second
  std::vector<T> diagonal, coupling;  // [n] of D; coupling[j] = D(j+1, j) where width[j] = 2
  std::vector<Real<T>> scale;         // [n] by rows of A
  std::int64_t perturbed = 0;         // pivots replaced because they were negligible
  std::vector<std::int32_t> stuck;    // last rows of A of the supernodes where that happened, roots left out

  bool pivoted() const { return kind != Kind::cholesky; }
  Conj conj() const { return kind == Kind::symmetric ? Conj::no : Conj::yes; }
  std::int64_t bytes() const {
    return panels.size() * static_cast<std::int64_t>(sizeof(T)) +
           static_cast<std::int64_t>(pivot.size()) * static_cast<std::int64_t>(5 + 2 * sizeof(T) + sizeof(Real<T>));
  }
};

}  // namespace torch_sla
