# The procedures that run inside Odoo become part of the program: it can put them in place from anywhere.
set(procedures ${CMAKE_SOURCE_DIR}/addon/procedures)
file(GLOB procedure_files CONFIGURE_DEPENDS ${procedures}/*.py)
set(embedded_procedures ${CMAKE_BINARY_DIR}/generated/connectors/odoo/embedded_procedures.cpp)
add_custom_command(
  OUTPUT ${embedded_procedures}
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${procedures} -DOUTPUT=${embedded_procedures} -P ${dir}/odoo/embed_procedures.cmake
  DEPENDS ${procedure_files} ${dir}/odoo/embed_procedures.cmake
  COMMENT "Embedding the procedures")
target_sources(dragoman_connectors PRIVATE ${embedded_procedures})
