#pragma once

#include <string_view>

/// The programs that PID 1 brings along, for guests whose root has nothing: started by an Exec with the flag
/// `built_in`, in processes of their own. Their one argument is a path.
namespace minivm::protocol::built_in {

/// Sends the file or tree to its stdout, as protocol/copy.h has it.
inline constexpr std::string_view send = "minivm-send";
/// Receives one from its stdin.
inline constexpr std::string_view receive = "minivm-receive";

}  // namespace minivm::protocol::built_in
