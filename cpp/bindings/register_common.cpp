// item_hash, hash_share, crc32c, error_codes.
#include "bindings/register_common.h"

#include <string_view>

#include "bindings/registers.h"
#include "common/crc32c.h"
#include "common/xxhash.h"

namespace py = pybind11;

namespace embedcore::bindings {

const char* python_code(Code code); // errors.cpp

void register_common(py::module_& m) {
  m.def(
      "item_hash",
      [](std::string_view text, std::uint64_t seed) { return xxh64(text.data(), text.size(), seed); },
      py::arg("text"), py::arg("seed") = 0, "XXH64 of the UTF-8 bytes.");
  m.def("hash_share", &hash_share, py::arg("hashed"), py::arg("salt"),
        "Where a hash falls in [0, 1) under a salt; the router's canary split.");
  m.def(
      "crc32c",
      [](const py::bytes& data, std::uint32_t crc) {
        const std::string_view bytes(data);
        const py::gil_scoped_release release; // bytes are immutable
        return crc32c(bytes.data(), bytes.size(), crc);
      },
      py::arg("data"), py::arg("crc") = 0, "CRC32C; pass the checksum of the bytes before to continue.");
  m.def(
      "error_codes",
      [] {
        py::dict codes;
        for (int code = 1; code <= static_cast<int>(Code::internal); ++code) {
          codes[name_of(static_cast<Code>(code))] = python_code(static_cast<Code>(code));
        }
        return codes;
      },
      "The core's error codes -> the codes in embedcore.errors that they are raised as.");
}

} // namespace embedcore::bindings
