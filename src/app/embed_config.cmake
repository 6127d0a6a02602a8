# cmake -DINPUT=… -DOUTPUT=… -P embed_config.cmake
file(READ ${INPUT} text)
file(WRITE ${OUTPUT} "// Generated from src/app/config.default.toml.
#include \"app/config.h\"

namespace dragoman::app {

std::string_view default_config() {
  return R\"toml~(${text})toml~\";
}

}  // namespace dragoman::app
")
