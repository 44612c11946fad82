import * as store from '../store';
import { ExportDialog } from './export-dialog';
import { HelpSheet } from './help-sheet';
import { ImportDialog } from './import-dialog';
import { ModelsDialog } from './models-dialog';
import { TrainDialog } from './train-dialog';

/** The dialog that is open, if any. */
export function Dialogs() {
  const close = () => {
    store.dialog.value = null;
  };
  switch (store.dialog.value) {
    case 'export':
      return <ExportDialog onClose={close} />;
    case 'import':
      return <ImportDialog onClose={close} />;
    case 'train':
      return <TrainDialog onClose={close} />;
    case 'models':
      return <ModelsDialog onClose={close} />;
    case 'help':
      return <HelpSheet onClose={close} />;
    default:
      return null;
  }
}
