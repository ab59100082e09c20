// Where an analysed pattern finds the values of a matrix whose own pattern need not be symmetric.
#pragma once

#include <cstdint>

namespace torch_sla {
namespace lanes {

// Entry e of the analysed pattern is value `slot[e]` of A, or a zero where that is -1.
struct Places {
  const std::int32_t* slot;    // [s.nnz]
  const std::int32_t* mirror;  // [s.nnz] entry (j, i) for entry (i, j)
};

}  // namespace lanes
}  // namespace torch_sla
