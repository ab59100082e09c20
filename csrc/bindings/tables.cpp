#include <vector>

#include "arrays.hpp"
#include "torch_sla/table_sums.hpp"

namespace {

using namespace torch_sla_bindings;

template <class Slot, class T>
void bind_products(py::module_& m) {
  // y [n_rows, members], added to, or to `start` [n_rows]; tables [levels, members], with the level of each point.
  m.def(
      "add_products",
      [](const Array<std::int32_t>& crow, const Array<std::int32_t>& ccol, const Array<Slot>& slots,
         const Array<T>& values, const std::vector<Array<T>>& tables, const std::vector<Array<std::int32_t>>& levels,
         const std::optional<Array<T>>& weight, int component, int components, const std::optional<Array<T>>& start,
         Array<T>& y, int threads) {
        const std::int64_t n_rows = crow.size() - 1, members = y.shape(1);
        expect_size(slots, ccol.size(), "slots");
        expect_size(y, n_rows * members, "y");
        if (start) expect_size(*start, n_rows, "start");
        if (tables.empty() || tables.size() > torch_sla::tables::kMost || tables.size() != levels.size())
          throw std::invalid_argument("one to three `tables`, and as many `levels`");
        torch_sla::tables::Product<T> law{static_cast<int>(tables.size()), {}, {}, weight ? weight->data() : nullptr};
        for (std::size_t k = 0; k < tables.size(); ++k) {
          if (tables[k].ndim() != 2 || tables[k].shape(1) != members)
            throw std::invalid_argument("`tables` must be [levels, members]");
          if (levels[k].size() != levels[0].size() || (weight && weight->size() != levels[k].size()))
            throw std::invalid_argument("`levels` and `weight` must have a number for each point");
          law.table[k] = tables[k].data();
          law.level[k] = levels[k].data();
        }
        const std::int32_t *r = crow.data(), *c = ccol.data();
        const Slot* s = slots.data();
        const T *a = values.data(), *first = start ? start->data() : nullptr;
        T* target = y.mutable_data();
        const Released release;
        torch_sla::tables::add_products(r, c, s, a, law, component, components, n_rows, members, first, target,
                                        threads);
      },
      array_arg("crow"), array_arg("ccol"), array_arg("slots"), array_arg("values"), py::arg("tables"),
      py::arg("levels"), array_arg("weight").none(true), py::arg("component"), py::arg("components"),
      array_arg("start").none(true), array_arg("y"), py::arg("threads"));
}

}  // namespace

void bind_tables(py::module_& m) {
  m.doc() = "Loads of laws that are products of tables.";
  for_each_index([&](auto slot) {
    bind_products<decltype(slot), double>(m);
    bind_products<decltype(slot), float>(m);
  });
}
