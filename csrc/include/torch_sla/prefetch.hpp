// Asking for memory before it is needed.
#pragma once

#include <cstdint>

// Inlined, or GCC takes a function without a result for one that does nothing.
#if defined(__GNUC__)
#define TORCH_SLA_PREFETCH inline __attribute__((always_inline))
#else
#define TORCH_SLA_PREFETCH inline
#endif

namespace torch_sla {

// Asks for what a stream of numbers brings in a while: matrices do not fit into caches, and processors look ahead
// no further than a page. Where a row is over soon it is enough to ask once for each: what lies between comes along.
template <int Ahead = 2048, class V>
TORCH_SLA_PREFETCH void prefetch(const V* now) {
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const char*>(now) + Ahead);
#else
  (void)now;
#endif
}

}  // namespace torch_sla

#undef TORCH_SLA_PREFETCH
