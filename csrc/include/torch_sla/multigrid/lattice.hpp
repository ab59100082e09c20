// Matrices on a lattice: offsets are constant, so a row is a stencil and no index is stored.
//
// A lattice has n[0] (fastest) x n[1] x n[2] points; a stencil reaches the 27 neighbours of a point or
// a subset of them. Coefficients are kept in chunks of `kLanes` rows, entry by entry inside a chunk, so
// that one stream feeds a vector loop. Entries that would leave the lattice are zero, and vectors are
// padded by the largest offset: no loop asks where the boundary is.
#pragma once

#include <algorithm>
#include <array>

#include "rows.hpp"
#include "scale.hpp"

namespace torch_sla::multigrid {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t chunks_of(std::int64_t n) { return (n + kLanes - 1) / kLanes; }

struct Shape {
  std::array<std::int64_t, 3> n{1, 1, 1};
  std::int64_t size() const { return n[0] * n[1] * n[2]; }
  std::int64_t stride(int axis) const { return axis == 0 ? 1 : axis == 1 ? n[0] : n[0] * n[1]; }
  std::int64_t pad() const { return (stride(2) + stride(1) + 1 + kLanes) / kLanes * kLanes; }
};

// Entries of a stencil: neighbours as d0 + 3 d1 + 9 d2 + 13 with d in -1, 0, 1, increasing; 13 is the
// point itself.
struct Entries {
  std::array<int, 27> slot;  // of each neighbour, -1 where it is absent
  std::array<int, 27> code;  // of each slot
  int count = 0;

  Entries() { slot.fill(-1); }
  static Entries of(const std::array<bool, 27>& present) {
    Entries e;
    for (int c = 0; c < 27; ++c)
      if (present[c]) {
        e.slot[c] = e.count;
        e.code[e.count++] = c;
      }
    return e;
  }
  static std::array<int, 3> step(int code) { return {code % 3 - 1, code / 3 % 3 - 1, code / 9 - 1}; }
  static std::int64_t offset(int code, const Shape& s) {
    const auto d = step(code);
    return d[0] + d[1] * s.stride(1) + d[2] * s.stride(2);
  }
};

template <class V>
struct Stencil {
  Shape shape;
  Entries entries;
  Buffer<V> val;  // [chunks, entries, kLanes], and room for a chunk read from the middle of its lanes

  void allocate(const Shape& s, const Entries& e) {
    shape = s;
    entries = e;
    val.resize((chunks_of(s.size()) * e.count + 1) * kLanes);
    std::fill(val.end() - kLanes, val.end(), V(0));
  }
  V* chunk(std::int64_t c) { return val.data() + c * entries.count * kLanes; }
  const V* chunk(std::int64_t c) const { return val.data() + c * entries.count * kLanes; }
  V& at(std::int64_t i, int slot) {
    return val[((i / kLanes) * entries.count + slot) * kLanes + i % kLanes];
  }
  V at(std::int64_t i, int slot) const {
    return val[((i / kLanes) * entries.count + slot) * kLanes + i % kLanes];
  }
  std::array<std::int64_t, 27> offsets() const {
    std::array<std::int64_t, 27> out{};
    for (int k = 0; k < entries.count; ++k) out[k] = Entries::offset(entries.code[k], shape);
    return out;
  }
};

// How rows that lie on the lattice of a stencil are read.
template <class V>
Offsets offsets_of(const Stencil<V>& A) {
  return {A.shape.n[0], A.entries.count, A.offsets()};
}

// The offsets col - row that occur, increasing; empty where there are more than 27.
template <class I>
std::vector<std::int64_t> distinct_offsets(const I* crow, const I* ccol, std::int64_t rows) {
  std::vector<std::int64_t> found;
  for (std::int64_t i = 0; i < rows; ++i) {
    const I from = crow[i], to = crow[i + 1];
    if (static_cast<std::size_t>(to - from) == found.size()) {  // the same offsets as known, mostly
      bool known = true;
      for (I s = from; s < to; ++s) known &= std::int64_t(ccol[s]) - i == found[s - from];
      if (known) continue;
    }
    std::size_t t = 0;
    for (I s = from; s < to; ++s) {
      const std::int64_t offset = std::int64_t(ccol[s]) - i;
      while (t < found.size() && found[t] < offset) ++t;
      if (t < found.size() && found[t] == offset) continue;
      if (found.size() == 27) return {};
      found.insert(found.begin() + t, offset);
    }
  }
  return found;
}

// Neighbours that the offsets stand for on this shape; count 0 where they do not fit.
inline Entries decode(const std::vector<std::int64_t>& offsets, const Shape& shape) {
  std::array<bool, 27> present{};
  present[13] = true;
  for (const std::int64_t offset : offsets) {
    int hit = -1;
    for (int code = 0; code < 27; ++code) {
      const auto d = Entries::step(code);
      bool possible = true;
      for (int a = 0; a < 3; ++a) possible &= d[a] == 0 || shape.n[a] > 1;
      if (possible && Entries::offset(code, shape) == offset) {
        if (hit >= 0) return Entries();  // two meanings: an edge of two points
        hit = code;
      }
    }
    if (hit < 0) return Entries();
    present[hit] = present[26 - hit] = true;
  }
  return Entries::of(present);
}

// Calls edge(i, x) for rows on the boundary of the lattice and inside(i) for the others, in order.
template <class Edge, class Inside>
void for_each_row(const Shape& shape, std::int64_t begin, std::int64_t end, Edge&& edge, Inside&& inside) {
  const std::int64_t n0 = shape.n[0];
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t line = i / n0, stop = std::min(end, (line + 1) * n0);
    std::array<std::int64_t, 3> x{i - line * n0, line % shape.n[1], line / shape.n[1]};
    bool border = false;
    for (int a = 1; a < 3; ++a)
      border |= shape.n[a] > 1 && (x[a] == 0 || x[a] + 1 == shape.n[a]);
    for (; i < stop; ++i, ++x[0]) {
      if (border || x[0] == 0 || x[0] + 1 == n0) edge(i, x);
      else inside(i);
    }
  }
}

// Turns kLanes rows that have an entry at every slot into a chunk.
template <int Count, class T, class V>
void load_chunk(const T* values, T scale, int count, V* chunk) {
  const int entries = Count ? Count : count;
  for (int k = 0; k < entries * kLanes; k += 64 / int(sizeof(T))) prefetch(values + k);
  for (int k = 0; k < entries; ++k)
    for (int l = 0; l < kLanes; ++l) chunk[k * kLanes + l] = V(values[l * entries + k] * scale);
}

// Copies CSR rows into stencils, scaled; returns the largest size among `values`, and throws where one is not finite.
// The pattern fits the lattice, as `detect_lattice` made sure.
template <class T, class V, class I>
double load_stencil(const I* crow, const I* ccol, const T* values, T scale, Stencil<V>& A, int threads) {
  const std::int64_t n = A.shape.size();
  const auto offsets = A.offsets();
  const int count = A.entries.count;
  std::vector<double> most(worker_count(chunks_of(n), threads), 0.0);
  parallel_for(chunks_of(n), threads, [&](std::int64_t begin, std::int64_t end, int worker) {
    Extent<T> found;
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t first = c * kLanes, last = std::min(n, first + kLanes);
      const T* from = values + crow[first];
      const std::int64_t entries = crow[last] - crow[first];
      V* chunk = A.chunk(c);
      found.take(from, entries);
      if (entries == count * kLanes) {  // no row has more than `count`: in the order of the slots
        switch (count) {
          case 5: load_chunk<5>(from, scale, count, chunk); break;
          case 7: load_chunk<7>(from, scale, count, chunk); break;
          case 9: load_chunk<9>(from, scale, count, chunk); break;
          case 27: load_chunk<27>(from, scale, count, chunk); break;
          default: load_chunk<0>(from, scale, count, chunk);
        }
        continue;
      }
      if (last < first + kLanes) std::fill(chunk, chunk + count * kLanes, V(0));
      for (std::int64_t i = first; i < last; ++i) {
        V* row = chunk + i % kLanes;
        I s = crow[i];
        if (crow[i + 1] - s == count) {
          for (int k = 0; k < count; ++k) row[k * kLanes] = V(values[s + k] * scale);
          continue;
        }
        for (int k = 0; k < count; ++k) {
          const bool stored = s < crow[i + 1] && std::int64_t(ccol[s]) - i == offsets[k];
          row[k * kLanes] = stored ? V(values[s++] * scale) : V(0);
        }
      }
    }
    most[worker] = found.size();
  });
  return largest_of(most);
}

// Whether every entry of the pattern joins neighbours on this shape, given that its offsets do inside.
template <class I>
bool fits(const I* crow, const I* ccol, const Shape& shape) {
  bool good = true;
  for_each_row(
      shape, 0, shape.size(),
      [&](std::int64_t i, const std::array<std::int64_t, 3>& x) {
        for (I s = crow[i]; s < crow[i + 1]; ++s) {
          const std::int64_t j = ccol[s];
          const std::int64_t y[3] = {j % shape.n[0], j / shape.n[0] % shape.n[1], j / shape.stride(2)};
          for (int a = 0; a < 3; ++a) good &= std::abs(x[a] - y[a]) <= 1;
        }
      },
      [](std::int64_t) {});
  return good;
}

// The lattice behind a pattern, or size 0. Two-dimensional ones are (n0, 1, n1), so that the last axis
// is the slow one that threads share.
template <class I>
Shape detect_lattice(const I* crow, const I* ccol, std::int64_t rows) {
  const Shape none{{0, 0, 0}};
  const auto offsets = distinct_offsets(crow, ccol, rows);
  std::vector<std::int64_t> ahead;  // beyond the row of the point itself
  for (const auto o : offsets)
    if (o > 1) ahead.push_back(o);
  if (offsets.empty() || ahead.empty()) return none;
  std::vector<Shape> candidates;
  for (std::int64_t n0 = ahead[0] - 1; n0 <= ahead[0] + 1; ++n0) {
    if (n0 < 3 || rows % n0) continue;
    candidates.push_back({{n0, 1, rows / n0}});
    for (const auto far : ahead) {
      if (far <= n0 + 1) continue;
      for (std::int64_t back = -n0 - 1; back <= n0 + 1; ++back) {
        if (std::abs(back) > 1 && std::abs(std::abs(back) - n0) > 1) continue;
        const std::int64_t plane = far + back;
        if (plane > n0 && plane % n0 == 0 && rows % plane == 0)
          candidates.push_back({{n0, plane / n0, rows / plane}});
      }
      break;
    }
  }
  // The nearest fit: among shapes on which the pattern lies, the one with the most compact stencil is
  // the one whose steps are all along axes as often as possible; fewest diagonal steps wins.
  Shape best = none;
  int fewest = 1 << 20;
  for (const auto& shape : candidates) {
    const Entries e = decode(offsets, shape);
    if (!e.count || !fits(crow, ccol, shape)) continue;
    int diagonal = 0;
    for (const auto o : offsets)
      for (int code = 0; code < 27; ++code)
        if (e.slot[code] >= 0 && Entries::offset(code, shape) == o) {
          const auto d = Entries::step(code);
          diagonal += std::abs(d[0]) + std::abs(d[1]) + std::abs(d[2]);
        }
    if (diagonal < fewest) {
      fewest = diagonal;
      best = shape;
    }
  }
  return best;
}

}  // namespace torch_sla::multigrid
