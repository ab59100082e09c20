// Multigrid on lattices for Python, with levels of type V.
#pragma once

#include <limits>

#include "common.hpp"

namespace torch_sla_bindings {

constexpr Index kShared = 1 << 21;  // entries of a matrix on a lattice from which on columns share its passes

template <class V>
class Lattice : public Common<V, Lattice<V>, mg::LatticeWorkspace<V>, mg::LatticeRunner<V>,
                              mg::LatticeAdjoint<V>, mg::LatticeWorkspace<Columns<V>>,
                              mg::LatticeRunner<V, Columns<V>>> {
  using Base = Common<V, Lattice<V>, mg::LatticeWorkspace<V>, mg::LatticeRunner<V>,
                      mg::LatticeAdjoint<V>, mg::LatticeWorkspace<Columns<V>>,
                      mg::LatticeRunner<V, Columns<V>>>;
  friend Base;
  using Base::source_;

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
    h_.levels[0].A.shape = s;
    h_.levels[0].A.entries = entries;
    offsets_ = mg::offsets_of(h_.levels[0].A);
  }

  std::unique_ptr<Lattice> skeleton() const {
    return std::unique_ptr<Lattice>(new Lattice(this->crow_, this->ccol_, mg::lattice_skeleton(h_)));
  }
  template <class T>
  bool renew(const T* values, bool check, int threads) {
    mg::load_lattice(h_, source_, values, threads);
    mg::build_lattice(h_, threads, !check);
    return true;
  }

  const mg::Offsets* offsets() const { return &offsets_; }
  // A stencil that stays in cache is no cheaper to read once for several columns, whose vectors then do not.
  int fewest() const { return source_.crow[source_.rows] >= kShared ? 3 : std::numeric_limits<int>::max(); }
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
      : Base(std::move(crow), std::move(ccol)), h_(std::move(h)), offsets_(mg::offsets_of(h_.levels[0].A)) {}

  mg::LatticeHierarchy<V> h_;
  mg::Offsets offsets_;
};

template <class V>
void bind_lattice(py::module_& m, const char* name) {
  py::class_<Lattice<V>> l(m, name);
  l.def(py::init<Array<Index>, Array<Index>, const std::vector<std::int64_t>&, bool, double, int,
                 const std::string&, int, int>(),
        array_arg("crow"), array_arg("ccol"), py::arg("shape"), py::arg("lines"), py::arg("most_contrary"), py::arg("sweeps"), py::arg("cycle"),
        py::arg("coarse_size"), py::arg("max_levels"))
      .def_property_readonly("contrary", &Lattice<V>::contrary);
  bind_properties(l);
}

}  // namespace torch_sla_bindings
