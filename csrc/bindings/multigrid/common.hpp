// What every kind of hierarchy does for Python, and how it is bound.
#pragma once

#include <array>
#include <mutex>

#include "../arrays.hpp"
#include "names.hpp"
#include "torch_sla/multigrid.hpp"

namespace torch_sla_bindings {

using Index = std::int32_t;

constexpr int kColumns = 4;  // right-hand sides that share a pass over the matrix
template <class V>
using Columns = mg::Lanes<V, kColumns>;

// What every kind of hierarchy does for Python. It keeps the caller's index arrays alive, one set of
// work vectors, and a lock, because a cycle writes to the latter. `Kind` has the types Workspace,
// Runner and Adjoint, those of several columns, the member h_, make_adjoint(), skeleton(), what the numbers do
// not change, renew(values, check, threads), which fills that in, false where `check` finds that the numbers ask
// for another one, and fewest(), how many columns are worth a group.
template <class V, class Kind, class Workspace, class Runner, class Adjoint, class Wide, class WideRunner>
class Common {
 public:
  template <class T>
  void update(const Array<T>& values, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    auto made = self().skeleton();  // beside this one, which stays as it is where that fails
    const Released release;
    const std::lock_guard<std::mutex> guard(lock_);
    made->renew(v, false, threads);
    const py::gil_scoped_acquire acquire;  // a skeleton is taken under it
    std::swap(self().h_, made->h_);
    adjoint_.reset();
  }

  // One for other numbers; with `check` as a new set-up would be, or null.
  template <class T>
  std::unique_ptr<Kind> renewed(const Array<T>& values, bool check, int threads) const {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    auto out = self().skeleton();
    const Released release;
    if (!out->renew(v, check, threads)) out.reset();
    return out;
  }

  // z = B r, or its transpose, for each column of r [n, k].
  template <class T>
  void apply(const Array<T>& r, Array<T>& z, bool transposed, int threads) {
    const std::int64_t n = source_.rows, k = n ? r.size() / n : 0;
    expect_size(r, n * k, "r");
    expect_size(z, n * k, "z");
    const T* from = r.data();
    T* to = z.mutable_data();
    const Released release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (transposed && !adjoint_) adjoint_ = self().make_adjoint();
    const Adjoint* turned = transposed ? adjoint_.get() : nullptr;
    const double scale = self().h_.scale;
    std::int64_t done = 0;
    if (together(k)) {
      Wide wide;
      WideRunner run(self().h_, turned, wide, threads);
      for (; k - done >= self().fewest(); done += std::min<std::int64_t>(kColumns, k - done))
        mg::apply_lanes<kColumns>(run, from, to, n, k, done, int(std::min<std::int64_t>(kColumns, k - done)), scale,
                                  threads);
    }
    if (done == k) return;
    Runner run(self().h_, turned, work_, threads);
    for (; done < k; ++done) mg::apply(run, from + done, to + done, n, k, scale, threads);
  }

  // Conjugate gradients for each column of b [n, k]; x holds the start and receives the solution.
  template <class T>
  py::list cg(const Array<T>& values, const Array<T>& b, Array<T>& x, bool zero_start, double rtol,
              double atol, int maxiter, const std::optional<Array<T>>& nullspace, int threads) {
    const std::int64_t n = source_.rows, k = n ? b.size() / n : 0;
    expect_size(values, source_.crow[n], "values");
    expect_size(b, n * k, "b");
    expect_size(x, n * k, "x");
    const int nullity = nullspace ? static_cast<int>(nullspace->size() / n) : 0;
    const T* basis = nullspace ? nullspace->data() : nullptr;
    const T *v = values.data(), *rhs = b.data();
    T* out = x.mutable_data();
    mg::SolveOptions o;
    o.rtol = rtol;
    o.atol = atol;
    o.maxiter = maxiter;
    o.flexible = self().h_.options.cycle == mg::Cycle::K;
    const bool shared = together(k) && !nullity;
    const auto group = [&](std::int64_t first, int some, WideRunner& run, std::array<bool, kColumns>& solved, int t) {
      const auto A = rows(source_.crow, source_.ccol, v, kColumns, t, self().offsets());
      mg::LaneSystem<kColumns, T, Index, WideRunner> system(A, rhs, out, k, first, some, zero_start, run, o);
      mg::lane_gradients(system);
      return system.finish(out, solved);
    };
    const auto alone = [&](const T* bc, T* xc, Runner& run, int spent, int t) {
      const auto A = rows(source_.crow, source_.ccol, v, 1, t, self().offsets());
      return mg::conjugate_gradients(A, bc, xc, zero_start && !spent, run, o.after(spent), basis, nullity);
    };
    return solved_by(group, alone, shared, rhs, out, n, k, zero_start, nullptr, threads);
  }

  // GMRES or BiCGStab for each column of b [n, k]. The matrix is given: with `transposed`, that of the
  // adjoint system, around the transposed cycle.
  template <class T>
  py::list krylov(const std::string& method, const Array<Index>& crow, const Array<Index>& ccol,
                  const Array<T>& values, const Array<T>& b, Array<T>& x, bool zero_start, double rtol,
                  double atol, int maxiter, int restart, bool transposed, int threads) {
    const std::int64_t n = source_.rows, k = n ? b.size() / n : 0;
    expect_size(crow, n + 1, "crow");
    expect_size(ccol, crow.data()[n], "ccol");
    expect_size(values, ccol.size(), "values");
    expect_size(b, n * k, "b");
    expect_size(x, n * k, "x");
    if (method != "gmres" && method != "bicgstab") throw std::invalid_argument("no method is called " + method);
    const Index *ptr = crow.data(), *col = ccol.data();
    const T *v = values.data(), *rhs = b.data();
    T* out = x.mutable_data();
    mg::SolveOptions o;
    o.rtol = rtol;
    o.atol = atol;
    o.maxiter = maxiter;
    o.restart = restart;
    if (transposed) {
      const Released release;  // who has the lock may be waiting for the GIL
      const std::lock_guard<std::mutex> guard(lock_);
      if (!adjoint_) adjoint_ = self().make_adjoint();
    }
    const bool shared = together(k), minimal = method == "gmres";
    // A matrix on the same lattice is read as one; the adjoint one has a pattern of its own.
    const bool same = ptr == source_.crow && col == source_.ccol;
    const mg::Offsets* lattice = self().offsets();
    if (lattice && !same && !lattice->hold(ptr, col, n)) lattice = nullptr;
    const auto group = [&](std::int64_t first, int some, WideRunner& run, std::array<bool, kColumns>& solved, int t) {
      const auto A = rows(ptr, col, v, kColumns, t, lattice);
      mg::LaneSystem<kColumns, T, Index, WideRunner> system(A, rhs, out, k, first, some, zero_start, run, o);
      if (minimal) mg::lane_gmres(system);
      else mg::lane_bicgstab(system);
      return system.finish(out, solved);
    };
    const auto alone = [&](const T* bc, T* xc, Runner& run, int spent, int t) {
      const auto A = rows(ptr, col, v, 1, t, lattice);
      const bool zero = zero_start && !spent;
      const mg::SolveOptions rest = o.after(spent);
      return minimal ? mg::gmres(A, bc, xc, zero, run, rest) : mg::bicgstab(A, bc, xc, zero, run, rest);
    };
    return solved_by(group, alone, shared, rhs, out, n, k, zero_start, transposed ? adjoint_.get() : nullptr, threads);
  }

  std::size_t nbytes() const { return self().h_.bytes() + work_.bytes(); }
  double scale() const { return self().h_.scale; }
  int coarse_nullity() const {
    return self().h_.coarse_inverse.empty() ? -1 : self().h_.coarse_rank.nullity;
  }
  double coarse_pivot() const { return self().h_.coarse_rank.pivot; }

 private:
  // Whether columns share the passes of a cycle; the steps of a K cycle are those of one column.
  bool together(std::int64_t k) const { return self().h_.options.cycle != mg::Cycle::K && k >= self().fewest(); }

  // A matrix as the methods read it, for vectors of so many columns.
  template <class T>
  mg::Rows<T, Index> rows(const Index* ptr, const Index* col, const T* v, int columns, int threads,
                          const mg::Offsets* lattice) const {
    const std::int64_t n = source_.rows, work = std::int64_t(ptr[n]) * columns;
    return {ptr, col, v, n, mg::threads_for(work, threads), lattice};
  }

  // Columns in groups where they are `shared`, those that have further to go from there, or all of them, alone.
  template <class T, class Group, class Alone>
  py::list solved_by(Group&& group, Alone&& alone, bool shared, const T* rhs, T* out, std::int64_t n, std::int64_t k,
                     bool zero_start, const Adjoint* adjoint, int threads) {
    std::vector<mg::SolveReport> reports(k);
    std::vector<std::int64_t> left(k);
    for (std::int64_t c = 0; c < k; ++c) left[c] = c;
    if (shared) left = groups(group, out, n, k, zero_start, adjoint, threads, reports);
    std::vector<int> spent;
    for (const auto c : left) spent.push_back(reports[c].iterations);
    const auto more = columns(rhs, out, n, k, left, spent, adjoint, threads, alone);
    for (std::size_t j = 0; j < left.size(); ++j) {
      auto& whole = reports[left[j]];
      auto history = std::move(whole.history);
      whole = more[j];
      whole.iterations += spent[j];
      if (!history.empty()) whole.history.insert(whole.history.begin(), history.begin(), history.end());
    }
    return listed(reports);
  }

  // Calls solve(first, count, runner, solved, threads) for groups of columns; returns the columns that are to go
  // alone, from where they are: the few left over by groups, too, which would carry empty lanes along.
  template <class T, class Solve>
  std::vector<std::int64_t> groups(Solve&& solve, T* out, std::int64_t n, std::int64_t k, bool zero_start,
                                   const Adjoint* adjoint, int threads, std::vector<mg::SolveReport>& reports) {
    std::vector<char> done(k, 0);
    const std::int64_t count = k / kColumns + (k % kColumns >= self().fewest());
    const int workers = torch_sla::worker_count(count, threads), inner = std::max(1, threads / workers);
    const Released release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (zero_start) std::fill(out, out + n * k, T(0));
    torch_sla::parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end, int) {
      Wide own;
      WideRunner run(self().h_, adjoint, own, inner);
      for (std::int64_t g = begin; g < end; ++g) {
        const std::int64_t first = g * kColumns;
        const int some = int(std::min<std::int64_t>(kColumns, k - first));
        std::array<bool, kColumns> solved;
        solved.fill(false);
        auto found = solve(first, some, run, solved, inner);
        for (int c = 0; c < some; ++c) {
          reports[first + c] = std::move(found[c]);
          done[first + c] = solved[c];
        }
      }
    });
    std::vector<std::int64_t> left;
    for (std::int64_t c = 0; c < k; ++c)
      if (!done[c]) left.push_back(c);
    return left;
  }

  // Calls solve(b, x, runner, spent, threads) for some columns, which have `spent` steps behind them. Several share the threads among them,
  // each with work vectors of its own: nobody waits for anybody inside a column.
  template <class T, class Solve>
  std::vector<mg::SolveReport> columns(const T* rhs, T* out, std::int64_t n, std::int64_t k,
                                       const std::vector<std::int64_t>& which, const std::vector<int>& spent,
                                       const Adjoint* adjoint, int threads, Solve&& solve) {
    std::vector<mg::SolveReport> reports(which.size());
    const Released release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (k == 1) {
      Runner run(self().h_, adjoint, work_, threads);
      if (!which.empty()) reports[0] = solve(rhs, out, run, spent[0], threads);
      return reports;
    }
    const auto count = static_cast<std::int64_t>(which.size());
    const int workers = torch_sla::worker_count(count, threads), inner = std::max(1, threads / workers);
    std::vector<Workspace> own(workers > 1 ? workers - 1 : 0);
    torch_sla::parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      Runner run(self().h_, adjoint, worker ? own[worker - 1] : work_, inner);
      mg::Buffer<T> b(n), x(n);
      for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t c = which[j];
        for (std::int64_t i = 0; i < n; ++i) {
          b[i] = rhs[i * k + c];
          x[i] = out[i * k + c];
        }
        reports[j] = solve(b.data(), x.data(), run, spent[j], inner);
        for (std::int64_t i = 0; i < n; ++i) out[i * k + c] = x[i];
      }
    });
    return reports;
  }

  static py::list listed(const std::vector<mg::SolveReport>& reports) {
    py::list result;
    for (const auto& r : reports)
      result.append(py::make_tuple(name_of(r.status), r.iterations, r.residual, r.history, r.sizes));
    return result;
  }

 protected:
  Common(Array<Index> crow, Array<Index> ccol) : crow_(std::move(crow)), ccol_(std::move(ccol)) {
    source_ = {crow_.data(), ccol_.data(), crow_.size() - 1};
    expect_size(ccol_, source_.crow[source_.rows], "ccol");
  }
  Kind& self() { return static_cast<Kind&>(*this); }
  const Kind& self() const { return static_cast<const Kind&>(*this); }

  Array<Index> crow_, ccol_;
  mg::Source<Index> source_;
  std::unique_ptr<Adjoint> adjoint_;
  Workspace work_;
  std::mutex lock_;
};

template <class Kind, class T>
void bind_common(py::class_<Kind>& c) {
  c.def("update", &Kind::template update<T>, array_arg("values"), py::arg("threads"))
      .def("renewed", &Kind::template renewed<T>, array_arg("values"), py::arg("check"), py::arg("threads"))
      .def("apply", &Kind::template apply<T>, array_arg("r"), array_arg("z"), py::arg("transposed"),
           py::arg("threads"))
      .def("cg", &Kind::template cg<T>, array_arg("values"), array_arg("b"), array_arg("x"),
           py::arg("zero_start"), py::arg("rtol"), py::arg("atol"), py::arg("maxiter"),
           py::arg("nullspace"), py::arg("threads"))
      .def("krylov", &Kind::template krylov<T>, py::arg("method"), array_arg("crow"), array_arg("ccol"),
           array_arg("values"), array_arg("b"), array_arg("x"), py::arg("zero_start"), py::arg("rtol"),
           py::arg("atol"), py::arg("maxiter"), py::arg("restart"), py::arg("transposed"), py::arg("threads"));
}

template <class Kind>
void bind_properties(py::class_<Kind>& c) {
  bind_common<Kind, double>(c);
  bind_common<Kind, float>(c);
  c.def("levels", &Kind::levels)
      .def("skeleton", &Kind::skeleton)
      .def_property_readonly("nbytes", &Kind::nbytes)
      .def_property_readonly("scale", &Kind::scale)
      .def_property_readonly("coarse_nullity", &Kind::coarse_nullity)
      .def_property_readonly("coarse_pivot", &Kind::coarse_pivot);
}

}  // namespace torch_sla_bindings
