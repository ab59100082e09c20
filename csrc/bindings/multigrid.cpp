#include "arrays.hpp"
#include "torch_sla/multigrid.hpp"

#include <array>
#include <mutex>

namespace {

using namespace torch_sla_bindings;
namespace mg = torch_sla::multigrid;
using Index = std::int32_t;

mg::Smoother smoother_of(const std::string& name) {
  if (name == "jacobi") return mg::Smoother::jacobi;
  if (name == "l1_jacobi") return mg::Smoother::l1_jacobi;
  if (name == "spai0") return mg::Smoother::spai0;
  if (name == "chebyshev") return mg::Smoother::chebyshev;
  if (name == "gauss_seidel") return mg::Smoother::gauss_seidel;
  throw std::invalid_argument("no smoother is called " + name);
}

mg::Cycle cycle_of(const std::string& name) {
  if (name == "V") return mg::Cycle::V;
  if (name == "W") return mg::Cycle::W;
  if (name == "K") return mg::Cycle::K;
  throw std::invalid_argument("no cycle is called " + name);
}

const char* name_of(mg::Status status) {
  switch (status) {
    case mg::Status::converged: return "CONVERGED";
    case mg::Status::maxiter: return "MAXITER";
    case mg::Status::stagnation: return "STAGNATION";
    case mg::Status::breakdown: return "BREAKDOWN";
    default: return "NONFINITE";
  }
}

constexpr int kColumns = 4;  // right-hand sides that share a pass over the matrix
template <class V>
using Columns = mg::Lanes<V, kColumns>;

// What every kind of hierarchy does for Python. It keeps the caller's index arrays alive, one set of
// work vectors, and a lock, because a cycle writes to the latter. `Kind` has the types Workspace,
// Runner and Adjoint, those of several columns, the member h_ and make_adjoint().
template <class V, class Kind, class Workspace, class Runner, class Adjoint, class Wide, class WideRunner>
class Common {
 public:
  // z = B r, or its transpose, for each column of r [n, k].
  template <class T>
  void apply(const Array<T>& r, Array<T>& z, bool transposed, int threads) {
    const std::int64_t n = source_.rows, k = n ? r.size() / n : 0;
    expect_size(r, n * k, "r");
    expect_size(z, n * k, "z");
    const T* from = r.data();
    T* to = z.mutable_data();
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (transposed && !adjoint_) adjoint_ = self().make_adjoint();
    const Adjoint* turned = transposed ? adjoint_.get() : nullptr;
    const double scale = self().h_.scale;
    std::int64_t done = 0;
    if (together(k)) {
      Wide wide;
      WideRunner run(self().h_, turned, wide, threads);
      for (; k - done > 1; done += std::min<std::int64_t>(kColumns, k - done))
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
      return mg::lane_gradients<kColumns>(source_.crow, source_.ccol, v, n, rhs, out, k, first, some, zero_start, run,
                                          o, solved, t);
    };
    const auto alone = [&](const T* bc, T* xc, Runner& run, int t) {
      return mg::conjugate_gradients<T, V, Index>(source_.crow, source_.ccol, v, n, 1, bc, xc, zero_start && !shared,
                                                  run, o, basis, nullity, t);
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
      const std::lock_guard<std::mutex> guard(lock_);
      if (!adjoint_) adjoint_ = self().make_adjoint();
    }
    const bool shared = together(k), minimal = method == "gmres";
    const auto group = [&](std::int64_t first, int some, WideRunner& run, std::array<bool, kColumns>& solved, int t) {
      const mg::Rows<T, Index> A{ptr, col, v, n, mg::threads_for(std::int64_t(ptr[n]) * kColumns, t)};
      mg::LaneSystem<kColumns, T, Index, WideRunner> system(A, rhs, out, k, first, some, zero_start, run, o);
      if (minimal) mg::lane_gmres(system);
      else mg::lane_bicgstab(system);
      system.finish(out, solved);
      return std::move(system.reports);
    };
    const auto alone = [&](const T* bc, T* xc, Runner& run, int t) {
      const mg::Rows<T, Index> A{ptr, col, v, n, mg::threads_for(ptr[n], t)};
      const bool zero = zero_start && !shared;
      return minimal ? mg::gmres(A, bc, xc, zero, run, o) : mg::bicgstab(A, bc, xc, zero, run, o);
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
  bool together(std::int64_t k) const { return k > 1 && self().h_.options.cycle != mg::Cycle::K; }

  // Columns in groups where they are `shared`, those that have further to go from there, or all of them, alone.
  template <class T, class Group, class Alone>
  py::list solved_by(Group&& group, Alone&& alone, bool shared, const T* rhs, T* out, std::int64_t n, std::int64_t k,
                     bool zero_start, const Adjoint* adjoint, int threads) {
    std::vector<mg::SolveReport> reports(k);
    std::vector<std::int64_t> left(k);
    for (std::int64_t c = 0; c < k; ++c) left[c] = c;
    if (shared) left = groups(group, out, n, k, zero_start, adjoint, threads, reports);
    const auto more = columns(rhs, out, n, k, left, adjoint, threads, alone);
    for (std::size_t j = 0; j < left.size(); ++j) {
      auto& whole = reports[left[j]];
      const int before = whole.iterations;
      auto history = std::move(whole.history);
      whole = more[j];
      whole.iterations += before;
      if (!history.empty()) whole.history.insert(whole.history.begin(), history.begin(), history.end());
    }
    return listed(reports);
  }

  // Calls solve(first, count, runner, solved, threads) for groups of columns; returns the columns that are to go
  // alone, from where they are.
  template <class T, class Solve>
  std::vector<std::int64_t> groups(Solve&& solve, T* out, std::int64_t n, std::int64_t k, bool zero_start,
                                   const Adjoint* adjoint, int threads, std::vector<mg::SolveReport>& reports) {
    std::vector<char> done(k, 0);
    const std::int64_t count = (k + kColumns - 1) / kColumns;
    const int workers = torch_sla::worker_count(count, threads), inner = std::max(1, threads / workers);
    py::gil_scoped_release release;
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

  // Calls solve(b, x, runner, threads) for some columns. Several columns share the threads among them,
  // each with work vectors of its own: nobody waits for anybody inside a column.
  template <class T, class Solve>
  std::vector<mg::SolveReport> columns(const T* rhs, T* out, std::int64_t n, std::int64_t k,
                                       const std::vector<std::int64_t>& which, const Adjoint* adjoint,
                                       int threads, Solve&& solve) {
    std::vector<mg::SolveReport> reports(which.size());
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    if (k == 1) {
      Runner run(self().h_, adjoint, work_, threads);
      if (!which.empty()) reports[0] = solve(rhs, out, run, threads);
      return reports;
    }
    const auto count = static_cast<std::int64_t>(which.size());
    const int workers = torch_sla::worker_count(count, threads);
    std::vector<Workspace> own(workers > 1 ? workers - 1 : 0);
    torch_sla::parallel_for(count, threads, [&](std::int64_t begin, std::int64_t end, int worker) {
      Runner run(self().h_, adjoint, worker ? own[worker - 1] : work_, 1);
      mg::Buffer<T> b(n), x(n);
      for (std::int64_t j = begin; j < end; ++j) {
        const std::int64_t c = which[j];
        for (std::int64_t i = 0; i < n; ++i) {
          b[i] = rhs[i * k + c];
          x[i] = out[i * k + c];
        }
        reports[j] = solve(b.data(), x.data(), run, 1);
        for (std::int64_t i = 0; i < n; ++i) out[i * k + c] = x[i];
      }
    });
    return reports;
  }

  static py::list listed(const std::vector<mg::SolveReport>& reports) {
    py::list result;
    for (const auto& r : reports)
      result.append(py::make_tuple(name_of(r.status), r.iterations, r.residual, r.history));
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

template <class V>
class Hierarchy : public Common<V, Hierarchy<V>, mg::Workspace<V>, mg::CycleRunner<V, Index>,
                                mg::Adjoint<V, Index>, mg::Workspace<Columns<V>>,
                                mg::CycleRunner<V, Index, Columns<V>>> {
  using Base = Common<V, Hierarchy<V>, mg::Workspace<V>, mg::CycleRunner<V, Index>,
                      mg::Adjoint<V, Index>, mg::Workspace<Columns<V>>,
                      mg::CycleRunner<V, Index, Columns<V>>>;
  friend Base;
  using Base::adjoint_, Base::lock_, Base::source_;

 public:
  Hierarchy(Array<Index> crow, Array<Index> ccol, bool classical, int block, double strength,
            double damping, const std::string& smoother, int sweeps, const std::string& cycle, int coarse_size,
            int max_levels)
      : Base(std::move(crow), std::move(ccol)) {
    if (block < 1 || block > mg::kMaxBlock || source_.rows % block)
      throw std::invalid_argument("`block` does not divide the number of rows");
    if (classical && block != 1) throw std::invalid_argument("classical coarsening is for scalars");
    auto& o = h_.options;
    o.classical = classical;
    o.strength = strength;
    o.damping = damping;
    o.smoother = smoother_of(smoother);
    o.sweeps = sweeps;
    o.cycle = cycle_of(cycle);
    o.coarse_size = coarse_size;
    o.max_levels = max_levels;
    h_.levels.emplace_back();
    mg::load_pattern(h_.levels[0].A, source_, block);
  }

  template <class T>
  void build(const Array<T>& values, const std::optional<Array<V>>& near_nullspace, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    mg::NearNullspace<V> nullspace;
    nullspace.columns = h_.levels[0].A.br;
    if (near_nullspace) {
      if (near_nullspace->ndim() != 2 || near_nullspace->shape(0) != source_.rows ||
          near_nullspace->shape(1) > mg::kMaxBlock)
        throw std::invalid_argument("`near_nullspace` must be [n, k] with k at most 12");
      nullspace.columns = static_cast<int>(near_nullspace->shape(1));
      nullspace.values.assign(near_nullspace->data(),
                              near_nullspace->data() + near_nullspace->size());
    }
    const T* v = values.data();
    py::gil_scoped_release release;
    mg::load_values(h_, source_, v, threads);
    mg::build(h_, std::move(nullspace), threads);
  }

  // transfers: (crow, ccol, values [nnz, b, k], columns) of each level, first to last
  template <class T>
  void build_from(const Array<T>& values, const py::list& transfers, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    std::vector<mg::BlockMatrix<V, Index>> list;
    for (const auto& item : transfers) {
      const auto [ptr, col, val, columns] =
          item.cast<std::tuple<Array<Index>, Array<Index>, Array<V>, Index>>();
      mg::BlockMatrix<V, Index> P;
      P.rows = static_cast<Index>(ptr.size() - 1);
      P.cols = columns;
      P.br = static_cast<int>(val.shape(1));
      P.bc = static_cast<int>(val.shape(2));
      P.own_ptr.assign(ptr.data(), ptr.data() + ptr.size());
      P.own_col.assign(col.data(), col.data() + col.size());
      P.val.assign(val.data(), val.data() + val.size());
      P.adopt();
      list.push_back(std::move(P));
    }
    mg::load_values(h_, source_, values.data(), threads);
    mg::build_from(h_, std::move(list), threads);
  }

  template <class T>
  void update(const Array<T>& values, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    adjoint_.reset();
    mg::load_values(h_, source_, v, threads);
    mg::refresh(h_, threads);
  }

  // What the numbers do not change, and a hierarchy made from it: null where `check` finds that the new
  // numbers ask for other aggregates.
  std::unique_ptr<Hierarchy> skeleton() const {
    return std::unique_ptr<Hierarchy>(new Hierarchy(this->crow_, this->ccol_, mg::skeleton(h_)));
  }
  template <class T>
  std::unique_ptr<Hierarchy> renewed(const Array<T>& values, bool check, int threads) const {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    auto out = skeleton();
    py::gil_scoped_release release;
    mg::load_values(out->h_, source_, v, threads);
    if (!mg::refresh(out->h_, threads, check)) out.reset();
    return out;
  }

  std::unique_ptr<mg::Adjoint<V, Index>> make_adjoint() const {
    return std::make_unique<mg::Adjoint<V, Index>>(mg::adjoint(h_));
  }

  py::list levels() const {
    py::list out;
    for (const auto& l : h_.levels)
      out.append(py::make_tuple(l.A.rows, l.A.br, l.A.nnz(), l.P.nnz()));
    return out;
  }

  // (crow, ccol, values) of the matrix or the transfer of one level, scaled as the level holds it
  py::tuple matrix(std::size_t level, bool transfer) const {
    if (level >= h_.levels.size()) throw std::invalid_argument("`level` is too large");
    const auto& l = h_.levels[level];
    const auto& A = transfer ? l.P : l.A;
    Array<Index> ptr(A.ptr ? A.rows + 1 : 0), col(A.nnz());
    Array<V> val({static_cast<py::ssize_t>(A.nnz()), static_cast<py::ssize_t>(A.br),
                  static_cast<py::ssize_t>(A.bc)});
    if (A.ptr) {
      std::copy(A.ptr, A.ptr + A.rows + 1, ptr.mutable_data());
      std::copy(A.col, A.col + A.nnz(), col.mutable_data());
      std::copy(A.val.begin(), A.val.end(), val.mutable_data());
    }
    return py::make_tuple(ptr, col, val, A.cols);
  }

 private:
  Hierarchy(Array<Index> crow, Array<Index> ccol, mg::Hierarchy<V, Index> h)
      : Base(std::move(crow), std::move(ccol)), h_(std::move(h)) {}

  mg::Hierarchy<V, Index> h_;
};

template <class V>
class Lattice : public Common<V, Lattice<V>, mg::LatticeWorkspace<V>, mg::LatticeRunner<V>,
                              mg::LatticeAdjoint<V>, mg::LatticeWorkspace<Columns<V>>,
                              mg::LatticeRunner<V, Columns<V>>> {
  using Base = Common<V, Lattice<V>, mg::LatticeWorkspace<V>, mg::LatticeRunner<V>,
                      mg::LatticeAdjoint<V>, mg::LatticeWorkspace<Columns<V>>,
                      mg::LatticeRunner<V, Columns<V>>>;
  friend Base;
  using Base::adjoint_, Base::lock_, Base::source_;

 public:
  Lattice(Array<Index> crow, Array<Index> ccol, const std::vector<std::int64_t>& shape, bool lines,
          double most_contrary, int sweeps,
          const std::string& cycle, int coarse_size, int max_levels)
      : Base(std::move(crow), std::move(ccol)) {
    auto& o = h_.options;
    o.lines = lines;
    o.most_contrary = most_contrary;
    o.sweeps = sweeps;
    o.cycle = cycle_of(cycle);
    o.coarse_size = coarse_size;
    o.max_levels = max_levels;
    const mg::Shape s{{shape.at(0), shape.at(1), shape.at(2)}};
    const auto entries = mg::decode(mg::distinct_offsets(source_.crow, source_.ccol, source_.rows), s);
    if (s.size() != source_.rows || !entries.count || !mg::fits(source_.crow, source_.ccol, s))
      throw std::invalid_argument("the pattern does not lie on a lattice of this shape");
    h_.levels.emplace_back();
    h_.levels[0].A.allocate(s, entries);
  }

  template <class T>
  void update(const Array<T>& values, int threads) {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    py::gil_scoped_release release;
    const std::lock_guard<std::mutex> guard(lock_);
    adjoint_.reset();
    mg::load_lattice(h_, source_, v, threads);
    mg::build_lattice(h_, threads, true);
  }

  // What the numbers do not change, and a lattice made from it; with `check` as a new set-up would.
  std::unique_ptr<Lattice> skeleton() const {
    return std::unique_ptr<Lattice>(new Lattice(this->crow_, this->ccol_, mg::lattice_skeleton(h_)));
  }
  template <class T>
  std::unique_ptr<Lattice> renewed(const Array<T>& values, bool check, int threads) const {
    expect_size(values, source_.crow[source_.rows], "values");
    const T* v = values.data();
    auto out = skeleton();
    py::gil_scoped_release release;
    mg::load_lattice(out->h_, source_, v, threads);
    mg::build_lattice(out->h_, threads, !check);
    return out;
  }

  std::unique_ptr<mg::LatticeAdjoint<V>> make_adjoint() const {
    return std::make_unique<mg::LatticeAdjoint<V>>(mg::lattice_adjoint(h_));
  }

  py::list levels() const {
    py::list out;
    for (const auto& l : h_.levels) out.append(py::make_tuple(l.A.shape.n, l.A.entries.count));
    return out;
  }
  double contrary() const { return h_.contrary; }

 private:
  Lattice(Array<Index> crow, Array<Index> ccol, mg::LatticeHierarchy<V> h)
      : Base(std::move(crow), std::move(ccol)), h_(std::move(h)) {}

  mg::LatticeHierarchy<V> h_;
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

template <class V, class T>
void bind_build(py::class_<Hierarchy<V>>& c) {
  c.def("build", &Hierarchy<V>::template build<T>, array_arg("values"), py::arg("near_nullspace"),
        py::arg("threads"))
      .def("build_from", &Hierarchy<V>::template build_from<T>, array_arg("values"),
           py::arg("transfers"), py::arg("threads"));
}

template <class V>
void bind_kinds(py::module_& m, const char* general, const char* lattice) {
  py::class_<Hierarchy<V>> h(m, general);
  h.def(py::init<Array<Index>, Array<Index>, bool, int, double, double, const std::string&, int,
                 const std::string&, int, int>(),
        array_arg("crow"), array_arg("ccol"), py::arg("classical"), py::arg("block"), py::arg("strength"), py::arg("damping"),
        py::arg("smoother"), py::arg("sweeps"), py::arg("cycle"), py::arg("coarse_size"),
        py::arg("max_levels"))
      .def("matrix", &Hierarchy<V>::matrix, py::arg("level"), py::arg("transfer"));
  bind_build<V, double>(h);
  bind_build<V, float>(h);
  bind_properties(h);

  py::class_<Lattice<V>> l(m, lattice);
  l.def(py::init<Array<Index>, Array<Index>, const std::vector<std::int64_t>&, bool, double, int,
                 const std::string&, int, int>(),
        array_arg("crow"), array_arg("ccol"), py::arg("shape"), py::arg("lines"), py::arg("most_contrary"), py::arg("sweeps"), py::arg("cycle"),
        py::arg("coarse_size"), py::arg("max_levels"))
      .def_property_readonly("contrary", &Lattice<V>::contrary);
  bind_properties(l);
}

}  // namespace

void bind_multigrid(py::module_& m) {
  m.doc() = "Multigrid: algebraic, and on lattices.";
  bind_kinds<double>(m, "Hierarchy64", "Lattice64");
  bind_kinds<float>(m, "Hierarchy32", "Lattice32");
  m.def(
      "detect_lattice",
      [](const Array<Index>& crow, const Array<Index>& ccol) {
        const Index *r = crow.data(), *c = ccol.data();
        const std::int64_t rows = crow.size() - 1;
        py::gil_scoped_release release;
        return mg::detect_lattice(r, c, rows).n;
      },
      array_arg("crow"), array_arg("ccol"));
}
