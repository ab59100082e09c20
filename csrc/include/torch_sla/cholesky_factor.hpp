// Numeric multifrontal factorisation: fronts in postorder, updates on two stacks, threads over
// disjoint subtrees and inside the large fronts above them.
#pragma once

#include <memory>

#include "cholesky_front.hpp"
#include "cholesky_memory.hpp"
#include "cholesky_symbolic.hpp"

namespace torch_sla {

// Adds the lower triangle of a child's update matrix into the parent's panel and update matrix.
// relative[i] is the place of the child's row i in the parent's front of `rows` rows.
template <class T>
void extend_add(Size m, const T* u, const std::int32_t* relative, Size rows, Size columns, T* panel,
                T* update) {
  const Size below = rows - columns;
  Size split = 0;  // rows of the child that are columns of the parent
  while (split < m && relative[split] < columns) ++split;
  for (Size j = 0; j < split; ++j) {
    const T* from = u + j * m;
    T* to = panel + relative[j] * rows;
    for (Size i = j; i < m; ++i) to[relative[i]] += from[i];
  }
  for (Size j = split; j < m; ++j) {
    const T* from = u + j * m;
    T* to = update + (relative[j] - columns) * below - columns;
    for (Size i = j; i < m; ++i) to[relative[i]] += from[i];
  }
}

// Assembles the front of supernode a: entries of A, then the children's updates in order.
template <class T>
void assemble_front(const Symbolic& s, std::int32_t a, const T* values, T* panel, T* update,
                    T* const* update_of) {
  const Size rows = s.rows(a), below = s.below(a), columns = s.columns(a);
  std::fill(panel, panel + rows * columns, T(0));
  for (std::int64_t e = s.entry_start[a]; e < s.entry_start[a + 1]; ++e)
    panel[s.entry_target[e]] = values[s.entry_source[e]];
  const std::int32_t from = s.child_start[a], to = s.child_start[a + 1];
  if (from == to) return;
  for (Size j = 0; j < below; ++j) std::fill(update + j * below + j, update + (j + 1) * below, T(0));
  for (std::int32_t k = from; k < to; ++k) {
    const std::int32_t c = s.child[k];
    if (s.below(c) > 0)
      extend_add<T>(s.below(c), update_of[c], s.relative.data() + s.row_start[c], rows, columns,
                    panel, update);
  }
}

// How the assembly tree is shared out: disjoint subtrees, each a contiguous range of supernodes in
// postorder, dealt to workers once by decreasing work; the fronts above them come afterwards.
struct Schedule {
  struct Subtree {
    std::int32_t first, root;
    std::int64_t base[2], extent[2];  // its part of the two stacks
    double work;
  };
  std::vector<std::vector<Subtree>> workers;
  std::vector<std::int32_t> top;  // ascending
  std::vector<std::int64_t> stack[2];  // [workers] entries
  std::int64_t kept = 0;  // most entries of updates that live outside the stacks at one time

  std::int64_t working_entries() const {
    std::int64_t sum = kept;
    for (const auto& side : stack)
      for (const std::int64_t entries : side) sum += entries;
    return sum;
  }
};

inline Schedule plan_schedule(const Symbolic& s, int threads) {
  Schedule plan;
  const std::int32_t m = s.supernodes();
  threads = std::max(1, threads);
  std::vector<double> work(m, 0.0);
  std::vector<std::int32_t> leftmost(m);
  double total = 0;
  for (std::int32_t a = 0; a < m; ++a) leftmost[a] = a;
  for (std::int32_t a = 0; a < m; ++a) {
    const double rows = s.rows(a), columns = s.columns(a);
    const double own = front_flops(rows, columns) + 8 * rows * rows + 2000;
    work[a] += own;
    total += own;
    if (s.parent[a] >= 0) {
      work[s.parent[a]] += work[a];
      leftmost[s.parent[a]] = std::min(leftmost[s.parent[a]], leftmost[a]);
    }
  }
  const auto lighter = [&](std::int32_t a, std::int32_t b) {
    return work[a] != work[b] ? work[a] < work[b] : a < b;
  };
  std::vector<std::int32_t> heap(s.child.begin() + s.child_start[m], s.child.begin() + s.child_start[m + 1]);
  std::make_heap(heap.begin(), heap.end(), lighter);
  while (threads > 1 && !heap.empty() && work[heap.front()] > total / (4 * threads)) {
    std::pop_heap(heap.begin(), heap.end(), lighter);
    const std::int32_t a = heap.back();
    heap.pop_back();
    plan.top.push_back(a);
    for (std::int32_t k = s.child_start[a]; k < s.child_start[a + 1]; ++k) {
      heap.push_back(s.child[k]);
      std::push_heap(heap.begin(), heap.end(), lighter);
    }
  }
  std::sort(plan.top.begin(), plan.top.end());
  std::sort(heap.begin(), heap.end(), [&](std::int32_t a, std::int32_t b) { return lighter(b, a); });
  plan.workers.resize(threads);
  for (auto& side : plan.stack) side.assign(threads, 0);
  std::vector<double> load(threads, 0.0);
  std::int64_t held = 0;
  for (const std::int32_t root : heap) {
    Schedule::Subtree tree{leftmost[root], root, {INT64_MAX, INT64_MAX}, {0, 0}, work[root]};
    const bool last = s.parent[root] < 0;
    for (std::int32_t a = tree.first; a < root + (last ? 1 : 0); ++a)
      tree.base[s.side[a]] = std::min(tree.base[s.side[a]], s.stack_top[a]);
    for (std::int32_t a = tree.first; a < root + (last ? 1 : 0); ++a) {
      const std::int64_t end = s.stack_top[a] + static_cast<std::int64_t>(s.below(a)) * s.below(a);
      tree.extent[s.side[a]] = std::max(tree.extent[s.side[a]], end - tree.base[s.side[a]]);
    }
    const auto least = std::min_element(load.begin(), load.end()) - load.begin();
    load[least] += tree.work;
    plan.workers[least].push_back(tree);
    for (int side = 0; side < 2; ++side)
      plan.stack[side][least] = std::max(plan.stack[side][least], tree.extent[side]);
    held += static_cast<std::int64_t>(s.below(root)) * s.below(root);
  }
  for (auto& list : plan.workers)
    std::sort(list.begin(), list.end(),
              [](const Schedule::Subtree& a, const Schedule::Subtree& b) { return a.root < b.root; });
  plan.kept = held;
  for (const std::int32_t a : plan.top) {
    held += static_cast<std::int64_t>(s.below(a)) * s.below(a);
    plan.kept = std::max(plan.kept, held);
    for (std::int32_t k = s.child_start[a]; k < s.child_start[a + 1]; ++k)
      held -= static_cast<std::int64_t>(s.below(s.child[k])) * s.below(s.child[k]);
  }
  return plan;
}

// Column of L whose pivot stopped a factorisation, -1 where none did.
using BadColumn = std::int32_t;

// Runs front(a, update_of, threads) -> local bad column or -1 over all fronts: it assembles front a from the update
// matrices of its children, eliminates it, and leaves its own in update_of[a].
template <class T, class Front>
BadColumn multifrontal(const Symbolic& s, const Schedule& plan, const Front& eliminate) {
  const int threads = static_cast<int>(plan.workers.size());
  std::vector<T*> update_of(s.supernodes(), nullptr);
  std::vector<Buffer<T>> kept(threads > 1 || !plan.top.empty() ? s.supernodes() : 0);
  std::vector<BadColumn> bad(threads, -1);
  const auto entries = [&](std::int32_t a) { return static_cast<std::int64_t>(s.below(a)) * s.below(a); };
  const auto front = [&](std::int32_t a, int team) -> BadColumn {
    check_interrupt();
    const Size wrong = eliminate(a, update_of.data(), team);
    return wrong < 0 ? -1 : static_cast<BadColumn>(s.first[a] + wrong);
  };
  parallel_run(threads, [&](int worker) {
    Buffer<T> stack[2] = {Buffer<T>(plan.stack[0][worker]), Buffer<T>(plan.stack[1][worker])};
    for (const auto& tree : plan.workers[worker])
      for (std::int32_t a = tree.first; a <= tree.root; ++a) {
        const int side = s.side[a];
        if (a == tree.root && s.parent[a] >= 0) {
          kept[a] = Buffer<T>(entries(a));
          update_of[a] = kept[a].data();
        } else {
          update_of[a] = stack[side].data() + (s.stack_top[a] - tree.base[side]);
        }
        bad[worker] = front(a, 1);
        if (bad[worker] >= 0) return;
      }
  });
  BadColumn first_bad = -1;
  for (const BadColumn b : bad)
    if (b >= 0 && (first_bad < 0 || b < first_bad)) first_bad = b;
  if (first_bad >= 0) return first_bad;
  for (const std::int32_t a : plan.top) {
    kept[a] = Buffer<T>(entries(a));
    update_of[a] = kept[a].data();
    const BadColumn wrong = front(a, threads);
    if (wrong >= 0) return wrong;
    for (std::int32_t k = s.child_start[a]; k < s.child_start[a + 1]; ++k) kept[s.child[k]] = Buffer<T>();
  }
  return -1;
}

// The same for symmetric matrices: eliminate(a, panel, update, fresh, threads), where `fresh` says that the
// update matrix holds nothing yet.
template <class T, class Eliminate>
BadColumn multifrontal(const Symbolic& s, const T* values, T* panels, const Schedule& plan,
                       const Eliminate& eliminate) {
  return multifrontal<T>(s, plan, [&](std::int32_t a, T* const* update_of, int team) -> Size {
    T* panel = panels + s.panel[a];
    assemble_front(s, a, values, panel, update_of[a], update_of);
    return eliminate(a, panel, update_of[a], s.child_start[a] == s.child_start[a + 1], team);
  });
}

// L L^H = P A P^T into `panels` [s.panel_entries()]. Returns the column of L whose pivot is not a
// positive finite number, or -1.
template <class T>
BadColumn cholesky(const Symbolic& s, const T* values, T* panels, const Schedule& plan,
                   const Blas<T>& blas) {
  return multifrontal<T>(
      s, values, panels, plan,
      [&](std::int32_t a, T* panel, T* update, bool fresh, int team) -> Size {
        const Size rows = s.rows(a), columns = s.columns(a), below = rows - columns;
        const Size bad = cholesky_panel<T>(blas, rows, columns, panel, rows, team);
        if (bad < 0 && below > 0)
          subtract_update<T>(blas, Conj::yes, fresh, below, columns, panel + columns, rows, panel + columns, rows,
                             update, below, team);
        return bad;
      });
}

}  // namespace torch_sla
