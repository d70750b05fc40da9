// Errors of the native core are values with a code; exceptions exist only above, in the bindings.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace embedcore {

// One entry per way a call can be refused. python/embedcore/errors.py holds the one table that maps
// these names to Python exceptions and gRPC status codes; a test holds the two lists together.
enum class Code : std::uint8_t {
  ok = 0,
  invalid_argument,    // the input is wrong whatever the state: shape, NaN, k < 1
  not_found,           // a named id does not exist
  already_exists,      // the name is taken
  failed_precondition, // right input at the wrong time, e.g. a route needs a vector that was not given
  resource_exhausted,  // a bounded queue, memory or disk is full
  unavailable,         // closed, not yet loaded
  deadline_exceeded,   // the deadline passed before the work was done
  data_loss,           // a checksum does not match
  cancelled,           // the caller asked to stop
  internal,            // a broken invariant: a bug
};

// The name of a code, as in the enum: the key of the table in python/embedcore/errors.py.
[[nodiscard]] constexpr const char* name_of(Code code) {
  switch (code) { // no default, so that the compiler names a code that was forgotten
    case Code::ok:
      return "ok";
    case Code::invalid_argument:
      return "invalid_argument";
    case Code::not_found:
      return "not_found";
    case Code::already_exists:
      return "already_exists";
    case Code::failed_precondition:
      return "failed_precondition";
    case Code::resource_exhausted:
      return "resource_exhausted";
    case Code::unavailable:
      return "unavailable";
    case Code::deadline_exceeded:
      return "deadline_exceeded";
    case Code::data_loss:
      return "data_loss";
    case Code::cancelled:
      return "cancelled";
    case Code::internal:
      return "internal";
  }
  return "internal";
}

struct Error {
  Code code = Code::internal;
  std::string message; // one line: what was expected, what came, what to do
};

// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : error_{code, std::move(message)} {}
  Status(Error error) : error_(std::move(error)) {} // NOLINT: implicit by intent

  [[nodiscard]] bool ok() const { return error_.code == Code::ok; }
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  Error error_{Code::ok, {}};
};

// A value or an Error. Pre-condition of value(): ok().
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::move(value)) {}     // NOLINT: implicit by intent
  Result(Error error) : held_(std::move(error)) {} // NOLINT: implicit by intent

  [[nodiscard]] bool ok() const { return std::holds_alternative<T>(held_); }
  [[nodiscard]] T& value() { return std::get<T>(held_); }
  [[nodiscard]] const T& value() const { return std::get<T>(held_); }
  [[nodiscard]] const Error& error() const { return std::get<Error>(held_); }

 private:
  std::variant<T, Error> held_;
};

} // namespace embedcore
