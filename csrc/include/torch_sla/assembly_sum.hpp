// Element matrices summed into the values of a sparse matrix a few cells at a time, and the adjoint.
//
// The coefficients of a form go in and the values of a matrix come out (or the other way round); what
// lies between, pulled-back coefficients and element matrices, exists for one chunk of cells only and
// stays in cache. A worker owns a range of rows and visits, in ascending order, the cells that touch
// it: every value is summed in the same order whatever the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_sla/assembly_contract.hpp"
#include "torch_sla/assembly_pullback.hpp"
#include "torch_sla/parallel.hpp"

namespace torch_sla {

// Where the entries of element matrices lie. Every node carries `components` dofs, so the slot of
// (i, a; j, b) follows from the slot of the pair of nodes (i, j) in the pattern of the nodes.
template <class Index>
struct Places {
  const std::int64_t* nodes;  // [cells][local]
  const Index* pairs;         // [cells][local * local], slots of the node pattern
  const Index* starts;        // [n_nodes + 1], its rows
  std::int64_t n_nodes, local, components;

  std::int64_t size() const { return components * components * std::int64_t(starts[n_nodes]); }

  // Calls f(slot, entry) for the entries of cell c in rows of nodes [low, high). Entries are laid out
  // [a][b][`plane` apart][i][j] and those of the cell begin at `first`. Components is `components`,
  // or 0 where that is a number the compiler need not know.
  template <int Components, class Scalar, class F>
  void for_entries(std::int64_t c, std::int64_t low, std::int64_t high, Scalar* first,
                   std::int64_t plane, F&& f) const {
    const std::int64_t size = Components ? Components : components;
    const std::int64_t* node = nodes + c * local;
    const Index* pair = pairs + c * local * local;
    if (Components == 1 && low == 0 && high == n_nodes) {
      for (std::int64_t k = 0; k < local * local; ++k) f(pair[k], first[k]);
      return;
    }
    for (std::int64_t i = 0; i < local; ++i, pair += local, first += local) {
      if (node[i] < low || node[i] >= high) continue;
      const std::int64_t start = starts[node[i]];
      const std::int64_t length = (std::int64_t(starts[node[i] + 1]) - start) * size;
      for (std::int64_t a = 0; a < size; ++a) {
        const std::int64_t row = size * size * start + a * length;
        Scalar* entry = first + a * size * plane;
        for (std::int64_t j = 0; j < local; ++j) {
          const std::int64_t slot = row + (pair[j] - start) * size;
          for (std::int64_t b = 0; b < size; ++b) f(slot + b, entry[b * plane + j]);
        }
      }
    }
  }

  // Whether cell c touches rows of nodes [low, high).
  bool touches(std::int64_t c, std::int64_t low, std::int64_t high) const {
    const std::int64_t* node = nodes + c * local;
    for (std::int64_t i = 0; i < local; ++i)
      if (node[i] >= low && node[i] < high) return true;
    return false;
  }
};

// Columns of the pattern of the dofs from that of the nodes: row (i, a) lists the dofs of the nodes in
// row i, for every dof a of node i.
//   starts [n_nodes + 1], columns: the pattern of the nodes;  first [n_nodes + 1]: their dofs
//   rows [n + 1]: row starts of the dofs;  out [rows[n]]
template <class Index, class Out>
void expand_columns(const Index* starts, const Index* columns, const std::int64_t* first,
                    const std::int64_t* rows, Out* out, std::int64_t n_nodes, int threads) {
  parallel_for_balanced(starts, n_nodes, threads, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t dof = first[i]; dof < first[i + 1]; ++dof) {
        Out* to = out + rows[dof];
        for (std::int64_t p = starts[i]; p < std::int64_t(starts[i + 1]); ++p)
          for (std::int64_t d = first[columns[p]]; d < first[columns[p] + 1]; ++d)
            *to++ = static_cast<Out>(d);
      }
  });
}

// What the coefficients of a form are and how they become pulled-back coefficients of some cells.
//
//   geometry   source [K][batch][sites | 1][points | 1]: coefficients, or what they are made of:
//              C[slot] = sum_k weights[slot][k] source[k], slots in the order [a][m][b][n]; without
//              weights K slots are the coefficients themselves
//   otherwise  source [pairs][batch][sites][terms], pulled back already
template <class Real, class Scalar>
struct Coefficients {
  using Pull = void (*)(const PullbackShape&, const Scalar*, const Real*, const Real*, Scalar*, int);

  PullbackShape shape;
  std::int64_t parts, slots, pairs, terms;  // terms: per pair of components and cell
  int dim;
  const Scalar* weights;  // [slots][parts], or null
  const Real *inverse, *measure;
  Pull forward, adjoint;  // null where the source is pulled back already

  bool shared() const { return shape.coefficient_sites == 1 && shape.sites > 1; }

  struct Scratch {
    std::vector<Scalar> C, sum;
    std::vector<Real> inverse, measure;
  };

  // R [pairs][count][terms] of some cells.
  void pulled(const Scalar* source, std::int64_t layer, const std::int64_t* cells, std::int64_t count,
              Scalar* R, Scratch& scratch) const {
    if (!forward) {
      for (std::int64_t p = 0; p < pairs; ++p)
        for (std::int64_t k = 0; k < count; ++k)
          std::copy_n(source + ((p * shape.batch + layer) * shape.sites + cells[k]) * terms, terms,
                      R + (p * count + k) * terms);
      return;
    }
    const std::int64_t points = shape.coefficient_points, width = count * points;
    const std::int64_t step = shape.batch * shape.coefficient_sites * points;
    const Scalar* base = source + layer * shape.coefficient_sites * points;
    scratch.C.assign(slots * width, Scalar(0));
    for (std::int64_t slot = 0; slot < slots; ++slot)
      for (std::int64_t part = weights ? 0 : slot; part < (weights ? parts : slot + 1); ++part) {
        const Scalar weight = weights ? weights[slot * parts + part] : Scalar(1);
        if (weight == Scalar(0)) continue;
        Scalar* to = scratch.C.data() + slot * width;
        if (adjacent(cells, count) && shape.coefficient_sites != 1) {
          const Scalar* from = base + part * step + cells[0] * points;
          for (std::int64_t i = 0; i < width; ++i) to[i] += weight * from[i];
          continue;
        }
        for (std::int64_t k = 0; k < count; ++k) {
          const Scalar* from = base + part * step + (shape.coefficient_sites == 1 ? 0 : cells[k]) * points;
          for (std::int64_t q = 0; q < points; ++q) to[k * points + q] += weight * from[q];
        }
      }
    const auto [G, w] = gathered(cells, count, scratch);
    forward(chunk(count), scratch.C.data(), G, w, R, 1);
  }

  // Adds the adjoint of `pulled` to the places of these cells in target [parts][batch][sites][...].
  void spread(const Scalar* R, std::int64_t layer, const std::int64_t* cells, std::int64_t count,
              Scalar* target, Scratch& scratch) const {
    if (!forward) {
      for (std::int64_t p = 0; p < pairs; ++p)
        for (std::int64_t k = 0; k < count; ++k)
          std::copy_n(R + (p * count + k) * terms, terms,
                      target + ((p * shape.batch + layer) * shape.sites + cells[k]) * terms);
      return;
    }
    const std::int64_t points = shape.coefficient_points, width = count * points;
    const std::int64_t step = shape.batch * shape.sites * points;
    Scalar* base = target + layer * shape.sites * points;
    scratch.C.resize(slots * width);
    const auto [G, w] = gathered(cells, count, scratch);
    adjoint(chunk(count), R, G, w, scratch.C.data(), 1);
    for (std::int64_t part = 0; part < parts; ++part) {
      const Scalar* sum = scratch.C.data() + part * width;
      if (weights) {
        scratch.sum.assign(width, Scalar(0));
        for (std::int64_t slot = 0; slot < slots; ++slot) {
          const Scalar weight = weights[slot * parts + part], *from = scratch.C.data() + slot * width;
          if (weight == Scalar(0)) continue;
          for (std::int64_t i = 0; i < width; ++i) scratch.sum[i] += weight * from[i];
        }
        sum = scratch.sum.data();
      }
      for (std::int64_t k = 0; k < count; ++k)
        std::copy_n(sum + k * points, points, base + part * step + cells[k] * points);
    }
  }

 private:
  // Whether cells, in order, are neighbours in memory.
  static bool adjacent(const std::int64_t* cells, std::int64_t count) {
    return cells[count - 1] - cells[0] == count - 1;
  }

  PullbackShape chunk(std::int64_t count) const {
    PullbackShape s = shape;
    s.batch = 1;
    s.sites = s.coefficient_sites = count;
    return s;
  }

  std::pair<const Real*, const Real*> gathered(const std::int64_t* cells, std::int64_t count,
                                               Scratch& scratch) const {
    const std::int64_t points = shape.geometry_points, square = std::int64_t(dim) * dim * points;
    if (adjacent(cells, count))
      return {inverse + cells[0] * square, measure + cells[0] * points};
    scratch.inverse.resize(count * square);
    scratch.measure.resize(count * points);
    for (std::int64_t k = 0; k < count; ++k) {
      std::copy_n(inverse + cells[k] * square, square, scratch.inverse.data() + k * square);
      std::copy_n(measure + cells[k] * points, points, scratch.measure.data() + k * points);
    }
    return {scratch.inverse.data(), scratch.measure.data()};
  }
};

namespace detail {

// Cells at a time: what they need stays well within a second-level cache.
inline std::int64_t cells_at_once(const ContractShape& s) {
  const std::int64_t pairs = s.test_components * s.trial_components;
  const std::int64_t each = pairs * (2 * s.terms + s.test_nodes * s.trial_nodes);
  return std::clamp<std::int64_t>(16384 / std::max<std::int64_t>(each, 1), 4, 256);
}

// Calls f(cells, count) for chunks of those of `cells` cells that `wanted` accepts, in order.
template <class Wanted, class F>
void for_chunks(std::int64_t begin, std::int64_t end, std::int64_t size, Wanted&& wanted, F&& f) {
  std::vector<std::int64_t> ids;
  ids.reserve(size);
  for (std::int64_t c = begin; c < end; ++c) {
    if (!wanted(c)) continue;
    ids.push_back(c);
    if (std::int64_t(ids.size()) == size) {
      f(ids.data(), size);
      ids.clear();
    }
  }
  if (!ids.empty()) f(ids.data(), std::int64_t(ids.size()));
}

// Every pair of components as a cell of its own: entries come out [a][b][cell][i][j].
inline ContractShape of_chunk(ContractShape s, std::int64_t count) {
  s.cells = count * s.test_components * s.trial_components;
  s.batch = s.test_components = s.trial_components = 1;
  return s;
}

// Calls f(Components()) with the number of components where it is common, else with 0.
template <class F>
void with_components(std::int64_t components, F&& f) {
  if (components == 1) f(std::integral_constant<int, 1>());
  else if (components == 2) f(std::integral_constant<int, 2>());
  else if (components == 3) f(std::integral_constant<int, 3>());
  else f(std::integral_constant<int, 0>());
}

}  // namespace detail

// values [batch][at.size()] = the sum of all element matrices.
// table [terms][local * local]
template <class Real, class Scalar, class Index>
void sum_matrices(const ContractShape& s, const Coefficients<Real, Scalar>& coefficients,
                  const Scalar* source, const double* table, const Places<Index>& at, Scalar* values,
                  int threads) {
  const std::int64_t nodes = at.local * at.local;
  const std::int64_t size = detail::cells_at_once(s), square = at.components * at.components;
  const int workers = worker_count(at.n_nodes, threads);
  parallel_run(workers, [&](int worker) {
    const std::int64_t low = balanced_begin(at.starts, at.n_nodes, workers, worker);
    const std::int64_t high = balanced_begin(at.starts, at.n_nodes, workers, worker + 1);
    std::vector<Scalar> R(coefficients.pairs * size * s.terms), local(size * nodes * coefficients.pairs);
    typename Coefficients<Real, Scalar>::Scratch scratch;
    for (std::int64_t layer = 0; layer < s.batch; ++layer) {
      Scalar* out = values + layer * at.size();
      std::fill(out + square * at.starts[low], out + square * at.starts[high], Scalar(0));
      const auto wanted = [&](std::int64_t c) { return workers == 1 || at.touches(c, low, high); };
      detail::for_chunks(0, s.cells, size, wanted, [&](const std::int64_t* cells, std::int64_t count) {
        coefficients.pulled(source, layer, cells, count, R.data(), scratch);
        contract(detail::of_chunk(s, count), R.data(), table, local.data(), 1);
        detail::with_components(at.components, [&](auto components) {
          for (std::int64_t k = 0; k < count; ++k)
            at.template for_entries<components()>(
                cells[k], low, high, local.data() + k * nodes, count * nodes,
                [&](std::int64_t slot, Scalar entry) { out[slot] += entry; });
        });
      });
    }
  });
}

// The adjoint: target[...] for every site, from values [batch][at.size()].
// columns [local * local][terms] is the table transposed.
template <class Real, class Scalar, class Index>
void sum_matrices_adjoint(const ContractShape& s, const Coefficients<Real, Scalar>& coefficients,
                          const Scalar* values, const double* columns, const Places<Index>& at,
                          Scalar* target, int threads) {
  const std::int64_t nodes = at.local * at.local;
  const std::int64_t size = detail::cells_at_once(s);
  parallel_for(s.cells, threads, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Scalar> R(coefficients.pairs * size * s.terms), local(size * nodes * coefficients.pairs);
    typename Coefficients<Real, Scalar>::Scratch scratch;
    for (std::int64_t layer = 0; layer < s.batch; ++layer) {
      const Scalar* in = values + layer * at.size();
      const auto all = [](std::int64_t) { return true; };
      detail::for_chunks(begin, end, size, all, [&](const std::int64_t* cells, std::int64_t count) {
        detail::with_components(at.components, [&](auto components) {
          for (std::int64_t k = 0; k < count; ++k)
            at.template for_entries<components()>(
                cells[k], 0, at.n_nodes, local.data() + k * nodes, count * nodes,
                [&](std::int64_t slot, Scalar& entry) { entry = in[slot]; });
        });
        contract_adjoint(detail::of_chunk(s, count), local.data(), columns, R.data(), 1);
        coefficients.spread(R.data(), layer, cells, count, target, scratch);
      });
    }
  });
}

}  // namespace torch_sla
