# The commented default settings become part of the program.
set(embedded ${CMAKE_BINARY_DIR}/generated/app/default_config.cpp)
add_custom_command(
  OUTPUT ${embedded}
  COMMAND ${CMAKE_COMMAND} -DINPUT=${dir}/config.default.toml -DOUTPUT=${embedded} -P ${dir}/embed_config.cmake
  DEPENDS ${dir}/config.default.toml ${dir}/embed_config.cmake
  COMMENT "Embedding the default settings")
target_sources(dragoman_app PRIVATE ${embedded})
target_compile_definitions(dragoman_app PRIVATE DRAGOMAN_VERSION="${PROJECT_VERSION}")
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
target_link_libraries(dragoman_app PRIVATE PkgConfig::tomlplusplus)
