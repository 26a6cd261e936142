#pragma once

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>

namespace minivm {

/// An option whose every value goes through `parse`; what that throws becomes a complaint that names the option.
template <typename Parse>
CLI::Option* add_parsed(CLI::App& command, const std::string& names, const std::string& help, Parse parse) {
  const std::string name = names.substr(0, names.find(','));
  const auto parse_all = [name, parse](const CLI::results_t& values) {
    for (const std::string& value : values) {
      try {
        parse(value);
      } catch (const std::invalid_argument& error) {
        throw CLI::ValidationError(name, error.what());
      }
    }
    return true;
  };
  return command.add_option(names, parse_all, help);
}

}  // namespace minivm
