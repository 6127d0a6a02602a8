# The migrations become part of the program.
file(GLOB migrations CONFIGURE_DEPENDS ${dir}/migrations/*.sql)
set(embedded ${CMAKE_BINARY_DIR}/generated/store/product_migrations.cpp)
add_custom_command(
  OUTPUT ${embedded}
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${dir}/migrations -DOUTPUT=${embedded} -P ${dir}/embed_migrations.cmake
  DEPENDS ${migrations} ${dir}/embed_migrations.cmake
  COMMENT "Embedding the store's migrations")
target_sources(dragoman_store PRIVATE ${embedded})
