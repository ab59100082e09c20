// What positions in compressed rows are, without their values: in order, symmetric, a lattice; and how their graph
// grows.
#pragma once

#include <cstdint>
#include <vector>

namespace torch_sla {

// Whether these are compressed rows: pointers rise from 0 to nnz, columns lie in [0, columns) and rise
// within each row.
template <class I>
bool is_csr(const I* crow, const I* ccol, std::int64_t rows, std::int64_t columns, std::int64_t nnz) {
  if (crow[0] != 0 || static_cast<std::int64_t>(crow[rows]) != nnz) return false;
  for (std::int64_t i = 0; i < rows; ++i) {
    if (crow[i + 1] < crow[i] || static_cast<std::int64_t>(crow[i + 1]) > nnz) return false;
    std::int64_t last = -1;
    for (I s = crow[i]; s < crow[i + 1]; ++s) {
      if (static_cast<std::int64_t>(ccol[s]) <= last) return false;
      last = ccol[s];
    }
    if (last >= columns) return false;
  }
  return true;
}

// Slot of the mirror image of each entry; false where the pattern is not symmetric. [nnz]
template <class I>
bool mirror_slots(const I* crow, const I* ccol, std::int64_t n, I* slot) {
  std::vector<I> cursor(crow, crow + n);
  for (std::int64_t i = 0; i < n; ++i)
    for (I s = cursor[i]; s < crow[i + 1]; ++s) {
      const I j = ccol[s];
      if (j < static_cast<I>(i)) return false;
      if (j == static_cast<I>(i)) {
        slot[s] = s;
        continue;
      }
      const I t = cursor[j];
      if (t >= crow[j + 1] || ccol[t] != static_cast<I>(i)) return false;
      cursor[j] = t + 1;
      slot[s] = t;
      slot[t] = s;
    }
  return true;
}

// Whether every entry joins neighbours of a lattice, given what each offset col - row stands for.
// offsets: increasing, [count]; steps: [count, 3] in -1, 0, 1. An offset that is not among them is
// returned in `missed`.
struct LatticeFit {
  bool fits = true, known = true;
  std::int64_t missed = 0;
};

template <class I>
LatticeFit lattice_fit(const I* crow, const I* ccol, const std::int64_t* shape, const std::int64_t* offsets,
                       const std::int64_t* steps, std::int64_t count) {
  LatticeFit out;
  std::int64_t i = 0;
  for (std::int64_t z = 0; z < shape[2]; ++z)
    for (std::int64_t y = 0; y < shape[1]; ++y)
      for (std::int64_t x = 0; x < shape[0]; ++x, ++i) {
        std::int64_t k = 0;
        const std::int64_t at[3] = {x, y, z};
        for (I s = crow[i]; s < crow[i + 1]; ++s) {
          const std::int64_t offset = static_cast<std::int64_t>(ccol[s]) - i;
          while (k < count && offsets[k] < offset) ++k;
          if (k == count || offsets[k] != offset) {
            out.known = false;
            out.missed = offset;
            return out;
          }
          for (int a = 0; a < 3; ++a) {
            const std::int64_t to = at[a] + steps[3 * k + a];
            if (to < 0 || to >= shape[a]) out.fits = false;
          }
        }
      }
  return out;
}

struct Breadth {
  std::int64_t levels = 0, reached = 1, last = 0;
};

// Levels, nodes reached, and a node of the last level of a breadth-first search from `start`.
template <class I>
Breadth breadth_first(const I* crow, const I* ccol, std::int64_t n, std::int64_t start, std::int64_t limit) {
  Breadth out;
  out.last = start;
  std::vector<std::uint8_t> seen(n, 0);
  std::vector<I> front{static_cast<I>(start)}, next;
  seen[start] = 1;
  while (out.levels < limit) {
    next.clear();
    for (const I i : front)
      for (I s = crow[i]; s < crow[i + 1]; ++s) {
        const I j = ccol[s];
        if (seen[j]) continue;
        seen[j] = 1;
        next.push_back(j);
      }
    if (next.empty()) break;
    front.swap(next);
    ++out.levels;
    out.reached += static_cast<std::int64_t>(front.size());
    out.last = front.front();
  }
  return out;
}

}  // namespace torch_sla
