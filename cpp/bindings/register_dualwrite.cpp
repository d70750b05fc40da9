// ScoreCalibration and blend.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "bindings/registers.h"
#include "dualwrite/blend.h"
#include "dualwrite/calibration.h"

namespace py = pybind11;

namespace embedcore::bindings {

namespace {

using dualwrite::ScoreCalibration;
constexpr int carray = py::array::c_style | py::array::forcecast;
using Doubles = py::array_t<double, carray>;

template <class T>
T unwrap(Result<T> result) {
  if (!result.ok()) raise(result.error());
  return std::move(result.value());
}

template <class T>
std::span<const T> span_of(const py::array_t<T, carray>& array) {
  return {array.data(), static_cast<std::size_t>(array.size())};
}

ScoreCalibration fit(const Doubles& source, const Doubles& target) {
  const auto x = span_of(source);
  const auto y = span_of(target);
  return unwrap([&] {
    const py::gil_scoped_release release;
    return ScoreCalibration::fit(x, y);
  }());
}

ScoreCalibration from_bytes(const py::bytes& data) {
  const std::string_view view(data);
  return unwrap(ScoreCalibration::from_bytes(std::as_bytes(std::span(view.data(), view.size()))));
}

py::bytes to_bytes(const ScoreCalibration& self) {
  const auto bytes = self.to_bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

py::array_t<double> copied(std::span<const double> values) {
  return py::array_t<double>(static_cast<py::ssize_t>(values.size()), values.data());
}

// Lists of shapes (q, a) and (q, b); the caller has checked ranges, here only what memory safety needs.
py::tuple blend(const py::array_t<std::int64_t, carray>& old_ids,
                const py::array_t<float, carray>& old_distances,
                const py::array_t<std::int64_t, carray>& new_ids,
                const py::array_t<float, carray>& new_distances, double weight,
                const ScoreCalibration* calibration, std::size_t k,
                const std::optional<py::array_t<bool, carray>>& held) {
  const bool shapes = old_ids.ndim() == 2 && new_ids.ndim() == 2 && old_ids.shape(0) == new_ids.shape(0) &&
                      old_distances.size() == old_ids.size() && new_distances.size() == new_ids.size() &&
                      (!held.has_value() || held->size() == old_ids.size());
  if (!shapes) raise({Code::invalid_argument, "lists must be (q, a) and (q, b), held like the old ids"});
  const auto rows = static_cast<std::size_t>(old_ids.shape(0));
  const auto a = static_cast<std::size_t>(old_ids.shape(1));
  const auto b = static_cast<std::size_t>(new_ids.shape(1));
  py::array_t<std::int64_t> ids({rows, k});
  py::array_t<float> distances({rows, k});
  const auto source_ids = span_of(old_ids);
  const auto source_distances = span_of(old_distances);
  const auto target_ids = span_of(new_ids);
  const auto target_distances = span_of(new_distances);
  const auto holds = held.has_value() ? span_of(*held) : std::span<const bool>{};
  std::int64_t* out_ids = ids.mutable_data();
  float* out_distances = distances.mutable_data();
  {
    const py::gil_scoped_release release;
    std::vector<dualwrite::Scored> ranked;
    for (std::size_t row = 0; row < rows; ++row) {
      dualwrite::blend({source_ids.subspan(row * a, a), source_distances.subspan(row * a, a)},
                       {target_ids.subspan(row * b, b), target_distances.subspan(row * b, b)}, weight,
                       calibration, k, holds.empty() ? holds : holds.subspan(row * a, a), ranked);
      for (std::size_t i = 0; i < k; ++i) {
        const bool found = i < ranked.size();
        out_ids[row * k + i] = found ? ranked[i].id : -1;
        out_distances[row * k + i] =
            found ? static_cast<float>(ranked[i].distance) : std::numeric_limits<float>::infinity();
      }
    }
  }
  return py::make_tuple(ids, distances);
}

} // namespace

void register_dualwrite(py::module_& m) {
  // No __init__: a calibration is fitted, loaded or unpickled.
  py::class_<ScoreCalibration, std::shared_ptr<ScoreCalibration>>(
      m, "ScoreCalibration",
      "A monotone map from one model's distances to another's: isotonic regression on score pairs, at most\n"
      "64 knots, strictly increasing, continued along its ends. Immutable; any number of threads may call "
      "it.")
      .def_static("fit", &fit, py::arg("old_scores"), py::arg("new_scores"),
                  "Fits to pairs of distances of one query and item, in the old and in the new model.\n\n"
                  "Two arrays of n >= 8 finite numbers, in any order. ValueError otherwise.")
      .def_static(
          "load",
          [](const std::filesystem::path& path) {
            return unwrap([&] {
              const py::gil_scoped_release release;
              return ScoreCalibration::load(path.string());
            }());
          },
          py::arg("path"),
          "Reads what save wrote. CorruptSnapshotError for a damaged file, KeyError (NotFound) for none.")
      .def(
          "save",
          [](const ScoreCalibration& self, const std::filesystem::path& path) {
            raise_if_error([&] {
              const py::gil_scoped_release release;
              return self.save(path.string());
            }());
          },
          py::arg("path"),
          "Writes the file durably, with a checksum; a crash leaves the old file or the new.")
      .def_static("from_bytes", &from_bytes, py::arg("data"), "The content of a saved file.")
      .def("to_bytes", &to_bytes, "The content that save writes, at most 1,048 bytes.")
      .def("__call__",
           py::vectorize([](const ScoreCalibration* self, double score) { return (*self)(score); }),
           py::arg("scores"), "Old distances -> new, float64 of the same shape; inf stays inf.")
      .def_property_readonly(
          "knots",
          [](const ScoreCalibration& self) {
            return py::make_tuple(copied(self.knots_source()), copied(self.knots_target()));
          },
          "(old, new): float64 distances of the knots, both strictly increasing.")
      .def_property_readonly("pairs", &ScoreCalibration::pairs, "How many score pairs were fitted.")
      .def("__repr__",
           [](const ScoreCalibration& self) {
             return "<ScoreCalibration of " + std::to_string(self.pairs()) + " pairs, " +
                    std::to_string(self.knots_source().size()) + " knots>";
           })
      .def(py::pickle(&to_bytes, [](const py::bytes& data) { return from_bytes(data); }));

  m.def("blend", &blend, py::arg("old_ids"), py::arg("old_distances"), py::arg("new_ids"),
        py::arg("new_distances"), py::arg("weight"), py::arg("calibration"), py::arg("k"), py::arg("held"),
        "Checked and typed by embedcore.blend.");
}

} // namespace embedcore::bindings
