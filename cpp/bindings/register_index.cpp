// _native.Index, _native.IdSet, _native.exact_search, _native.build_info. Arrays come in as the typed
// Python layer made them (dtype and contiguity are required here, not repaired) and are used in place.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "bindings/index_calls.h"
#include "bindings/registers.h"
#include "bindings/search_calls.h"
#include "hnsw/exact.h"
#include "hnsw/filter.h"
#include "hnsw/index.h"
#include "hnsw/kernels.h"
#include "hnsw/validate.h"

namespace embedcore::bindings {

namespace {

namespace py = pybind11;
using hnsw::Index;
#if defined(__clang__)
constexpr const char* compiler = "clang " __clang_version__;
#else
constexpr const char* compiler = "gcc " __VERSION__;
#endif

std::span<const std::int64_t> span_of(const Ids& ids) {
  return {ids.data(), static_cast<std::size_t>(ids.size())};
}

void add(Index& index, const Ids& ids, const Floats& vectors, unsigned threads, py::object progress) {
  const bool reports = !progress.is_none();
  Interruption interruption(progress, static_cast<std::size_t>(ids.size()));
  Status status;
  {
    const py::gil_scoped_release release;
    status = index.add(span_of(ids), vectors.data(), threads,
                       [&](std::size_t done) { return interruption.poll(done); });
  }
  interruption.rethrow();
  raise_if_error(status);
  if (reports) progress(ids.size(), ids.size());
}

Floats get(const Index& index, const Ids& ids) {
  Floats vectors({static_cast<py::ssize_t>(ids.size()), static_cast<py::ssize_t>(index.config().dim)});
  float* out = vectors.mutable_data();
  Status status;
  {
    const py::gil_scoped_release release;
    status = index.get(span_of(ids), out);
    if (status.ok()) status = index.health();
  }
  raise_if_error(status);
  return vectors;
}

Ids all_ids(const Index& index) {
  std::vector<std::int64_t> ids;
  {
    const py::gil_scoped_release release;
    ids = index.ids();
  }
  return Ids(static_cast<py::ssize_t>(ids.size()), ids.data());
}

std::size_t memory_bytes(const Index& index) {
  const py::gil_scoped_release release;
  return index.memory_bytes();
}

// budget: seconds, or None. Ctrl-C ends the call between two steps.
py::dict report(Index& index, hnsw::Report (Index::*verb)(const hnsw::Budget&), std::optional<double> budget,
                unsigned threads) {
  hnsw::Report r;
  Interruption interruption;
  std::atomic<bool> stopped{false};
  const auto caller = std::this_thread::get_id();
  {
    const py::gil_scoped_release release;
    hnsw::Budget limit;
    if (budget) limit = hnsw::Budget::seconds(*budget);
    const auto time = std::move(limit.spent);
    limit.threads = threads;
    limit.spent = [&] {
      if (std::this_thread::get_id() == caller && !interruption.poll(0)) stopped.store(true);
      return stopped.load() || (time && time());
    };
    r = (index.*verb)(limit);
  }
  interruption.rethrow();
  py::dict d;
  d["examined"] = r.examined;
  d["changed"] = r.changed;
  d["freed"] = r.freed;
  d["done"] = r.done;
  return d;
}

py::dict stats(const Index& index) {
  hnsw::Stats s;
  {
    const py::gil_scoped_release release;
    s = index.stats();
  }
  using namespace py::literals;
  constexpr std::array kinds{"none", "int8", "int4"};
  return py::dict(
      "live"_a = s.live, "tombstones"_a = s.tombstones, "verified"_a = s.verified,
      "codes"_a =
          py::dict("kind"_a = kinds.at(static_cast<std::size_t>(index.config().codes)),
                   "trained_on"_a = s.codes_trained_on, "step"_a = s.codes_step, "error"_a = s.codes_error),
      "slots"_a = py::dict("total"_a = s.slots, "free"_a = s.free, "retired"_a = s.retired),
      "memory"_a =
          py::dict("links_and_codes"_a = s.block_bytes, "originals"_a = s.original_bytes,
                   "nodes"_a = s.node_bytes, "upper_links"_a = s.upper_bytes, "id_table"_a = s.table_bytes,
                   "search_buffers"_a = s.scratch_bytes, "other"_a = s.other_bytes),
      "levels"_a = s.levels,
      "degrees"_a = py::dict("min"_a = s.degree_min, "mean"_a = s.degree_mean, "max"_a = s.degree_max),
      "counters"_a = py::dict("added"_a = s.added, "replaced"_a = s.replaced, "removed"_a = s.removed,
                              "reconnected"_a = s.reconnected, "freed"_a = s.freed, "moved"_a = s.moved));
}

template <class T>
T value_or_raise(Result<T> result) {
  if (!result.ok()) raise(result.error());
  return std::move(result.value());
}

std::shared_ptr<Index> create(std::uint32_t dim, int metric, std::uint32_t m, std::uint32_t ef_construction,
                              std::uint64_t seed, std::size_t capacity, int dtype, int codes) {
  hnsw::Config config;
  config.dim = dim;
  config.metric = static_cast<hnsw::Metric>(metric);
  config.m = m;
  config.ef_construction = ef_construction;
  config.seed = seed;
  config.capacity = capacity;
  config.dtype = static_cast<hnsw::Dtype>(dtype);
  config.codes = static_cast<hnsw::Codes>(codes);
  return value_or_raise(Index::create(config));
}

std::shared_ptr<Index> load(const std::string& path, bool mapped) {
  std::optional<Result<std::shared_ptr<Index>>> result;
  {
    const py::gil_scoped_release release;
    result.emplace(Index::load(path, mapped));
  }
  return value_or_raise(std::move(*result));
}

py::tuple exact_search(int metric, const Floats& base, const Floats& queries, std::size_t k,
                       unsigned threads) {
  const auto n = static_cast<std::size_t>(queries.shape(0));
  hnsw::Config config;
  config.dim = static_cast<std::uint32_t>(base.shape(1));
  config.metric = static_cast<hnsw::Metric>(metric);
  const hnsw::Rows base_rows{base.data(), static_cast<std::size_t>(base.shape(0))};
  const hnsw::Rows query_rows{queries.data(), n};
  Ids ids({n, k});
  Floats distances({n, k});
  std::int64_t* id = ids.mutable_data();
  float* distance = distances.mutable_data();
  Interruption interruption;
  Status status;
  {
    const py::gil_scoped_release release;
    status = hnsw::check_vectors(config, query_rows.data, n, "query");
    if (status.ok()) {
      status = hnsw::exact_search(
          config.metric, config.dim, base_rows, query_rows, k, threads, [&] { return interruption.poll(0); },
          id, distance);
    }
  }
  interruption.rethrow();
  raise_if_error(status);
  return py::make_tuple(std::move(ids), std::move(distances));
}

py::dict build_info() {
  const hnsw::Kernels* chosen = value_or_raise(Result<const hnsw::Kernels*>(hnsw::chosen_kernels()));
  py::list compiled;
  for (const hnsw::Kernels* kernels : hnsw::compiled_kernels()) compiled.append(kernels->name);
  using namespace py::literals;
  return py::dict("version"_a = EMBEDCORE_VERSION, "compiler"_a = compiler, "isa_compiled"_a = compiled,
                  "isa"_a = chosen->name);
}

} // namespace

void register_index(py::module_& m) {
  py::class_<hnsw::IdSet>(m, "IdSet")
      .def(py::init([](const Ids& ids) { return std::make_unique<hnsw::IdSet>(span_of(ids)); }),
           py::arg("ids"))
      .def("__len__", &hnsw::IdSet::size)
      .def("__contains__", &hnsw::IdSet::allows);

  py::class_<Index, std::shared_ptr<Index>>(m, "Index")
      .def(py::init(&create), py::arg("dim"), py::arg("metric"), py::arg("m"), py::arg("ef_construction"),
           py::arg("seed"), py::arg("capacity"), py::arg("dtype") = 0, py::arg("codes") = 0)
      .def_static("load", &load, py::arg("path"), py::arg("mmap") = false)
      .def("add", &add, py::arg("ids").noconvert(), py::arg("vectors").noconvert(), py::arg("threads"),
           py::arg("progress"))
      .def(
          "remove",
          [](Index& index, const Ids& ids) {
            const py::gil_scoped_release release;
            return index.remove(span_of(ids));
          },
          py::arg("ids").noconvert())
      .def("search_plain", &search_plain, py::arg("queries"), py::arg("k"), py::arg("ef"), py::arg("threads"))
      .def("search", &search, py::arg("queries").noconvert(), py::arg("k"), py::arg("ef"), py::arg("allowed"),
           py::arg("threads"), py::arg("ids").noconvert(), py::arg("distances").noconvert(), py::arg("stats"))
      .def("range_search", &range_search, py::arg("queries").noconvert(), py::arg("radius"), py::arg("ef"),
           py::arg("allowed"), py::arg("threads"))
      .def("scores", &scores, py::arg("query").noconvert(), py::arg("ids").noconvert())
      .def("get", &get, py::arg("ids").noconvert())
      .def("ids", &all_ids)
      .def("__len__", &Index::size)
      .def("__contains__", &Index::contains)
      .def_property_readonly("tombstones", &Index::tombstones)
      .def_property_readonly("memory_bytes", &memory_bytes)
      .def_property_readonly("dim", [](const Index& index) { return index.config().dim; })
      .def_property_readonly("metric",
                             [](const Index& index) { return static_cast<int>(index.config().metric); })
      .def_property_readonly("dtype",
                             [](const Index& index) { return static_cast<int>(index.config().dtype); })
      .def_property_readonly("codes",
                             [](const Index& index) { return static_cast<int>(index.config().codes); })
      .def_property_readonly("m", [](const Index& index) { return index.config().m; })
      .def_property_readonly("ef_construction",
                             [](const Index& index) { return index.config().ef_construction; })
      .def_property_readonly("seed", [](const Index& index) { return index.config().seed; })
      .def_property_readonly("fingerprint", [](const Index& index) { return index.tag().fingerprint; })
      .def_property_readonly("watermark", [](const Index& index) { return index.tag().watermark; })
      .def("stats", &stats)
      .def(
          "repair",
          [](Index& index, std::optional<double> budget, unsigned threads) {
            return report(index, &Index::repair, budget, threads);
          },
          py::arg("budget"), py::arg("threads"))
      .def(
          "compact",
          [](Index& index, std::optional<double> budget, unsigned threads) {
            return report(index, &Index::compact, budget, threads);
          },
          py::arg("budget"), py::arg("threads"))
      .def(
          "relocate",
          [](Index& index, std::optional<double> budget, unsigned threads) {
            return report(index, &Index::relocate, budget, threads);
          },
          py::arg("budget"), py::arg("threads"))
      .def_property_readonly("verified", &Index::verified)
      .def("health", [](const Index& index) { raise_if_error(index.health()); })
      .def("wait_verified",
           [](const Index& index) {
             Status status;
             {
               const py::gil_scoped_release release;
               status = index.wait_verified();
             }
             raise_if_error(status);
           })
      .def("check", &Index::check, py::call_guard<py::gil_scoped_release>())
      .def(
          "save",
          [](Index& index, const std::string& path, std::string fingerprint, std::uint64_t watermark) {
            Status status;
            {
              const py::gil_scoped_release release;
              const hnsw::Tag tag{std::move(fingerprint), watermark};
              status = index.save(path, tag);
              if (status.ok()) index.set_tag(tag);
            }
            raise_if_error(status);
          },
          py::arg("path"), py::arg("fingerprint"), py::arg("watermark"));

  m.def("exact_search", &exact_search, py::arg("metric"), py::arg("base").noconvert(),
        py::arg("queries").noconvert(), py::arg("k"), py::arg("threads"));
  m.def("build_info", &build_info);
}

} // namespace embedcore::bindings
